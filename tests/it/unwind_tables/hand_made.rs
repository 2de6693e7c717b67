//! Unwind tables of programs made for the purpose, and of files that somebody damaged.
