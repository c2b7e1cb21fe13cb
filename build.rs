//! Gives the shared library its soname; the C header is generated and compared by `tests/header.rs`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libasap.so.0");
}
