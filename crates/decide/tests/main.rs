//! The tests of the decision engine that need a mesh: one binary, one module for each topic.

//access
//failover
//health
mod reference;
//resilience
//retry
//why
mod world;
