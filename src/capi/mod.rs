//! The C functions: check, one safe call, convert. Nothing else (and no unsafe elsewhere but system calls).
