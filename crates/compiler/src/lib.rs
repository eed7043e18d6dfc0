//! compiler (being written).
