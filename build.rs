//! Gives the shared library its soname, and has it call its own functions by their names, whoever else in the process has functions of
//! these names (`librsplib.so.3` has). The C header is generated and compared by `tests/header.rs`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // To everything of this package, and without effect on programs: arguments for cdylibs alone would go to librsplib.so.3, too.
    println!("cargo:rustc-link-arg=-Wl,-soname,libasap.so.0");
    println!("cargo:rustc-link-arg=-Wl,-Bsymbolic");
}
