//! Tests of the datapath.
