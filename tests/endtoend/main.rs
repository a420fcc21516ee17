//! Tests of the endtoend.
