//! Tests of root.
