//! The L7 pipeline in two halves: one readable function per request, which asks `decide` and
//! ends in exactly one event.
//!
//! Both halves run on a worker thread (current-thread runtime, `LocalSet`); nothing is `Send`
//! that need not be. [`serve_client_half`] routes, retries and times out for the caller;
//! [`serve_server_half`] authorises and forwards for the callee. Between them requests travel as
//! HTTP/1.1 or as HTTP/2 with prior knowledge, whichever the application spoke.

mod answer;
mod client_half;
mod connection;
mod connections;
mod deadline;
mod executor;
mod fault;
mod flight;
pub mod headers;
mod idle;
mod limits;
mod request_body;
mod response_body;
mod serve;
mod server_half;
mod strict;
mod upgrade;
mod worker;

pub use client_half::{ClientHalf, Dial, DialAsk, Dialling, serve_client_half};
pub use serve::Stop;
pub use server_half::{ServerHalf, serve_server_half};
pub use worker::{Settings, Worker};
