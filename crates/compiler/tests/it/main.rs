//! Tests of the compiler as a whole: goldens, histories, and that order does not matter.

mod golden;
mod history;
mod mesh;
mod render;
