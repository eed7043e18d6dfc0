//! decide (being written).
