//! Comparisons of profiles whose truth is known.
