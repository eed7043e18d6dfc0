//! Tests of reading and printing objects.

mod bad_input;
mod properties;
mod samples;
