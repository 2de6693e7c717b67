//! One binary of integration tests, one file per promise to users.

mod capacity;
mod sandbox;
