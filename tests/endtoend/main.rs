//! Tests of the endtoend.

mod network;
