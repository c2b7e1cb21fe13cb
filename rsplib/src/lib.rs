//! `librsplib.so.3`: the C functions of libasap in the ways of RSPLIB (docs/semantics.md), for programs that were linked with that. All there is to it
//! is this choice, made when the library is loaded, before anybody can call it.

use asap::socket::Semantics;

extern "C" fn choose() {
    Semantics::RSPLIB.choose();
}

/// Called by the dynamic loader.
#[used]
// SAFETY: the section holds pointers to functions that the loader calls; it hands them arguments that this one does not look at.
#[unsafe(link_section = ".init_array")]
static CHOOSE: extern "C" fn() = choose;
