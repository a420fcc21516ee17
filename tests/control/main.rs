//! Tests of the control.
