//! Gives the library the soname that RSPLIB's programs ask for; its calls of its own functions stay within it, as build.rs of libasap says.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,librsplib.so.3");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-Bsymbolic");
}
