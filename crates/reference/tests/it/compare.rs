//! The comparison: random worlds, random requests, no difference.

use std::time::Instant;

use tacit_reference::{Reference, World};

use crate::engine::Engine;
use crate::random::Random;
use crate::requests::request;
use crate::worlds;

/// Random cases in a plain `cargo test`; `TACIT_CASES` asks for more.
const CASES: u64 = 50_000;
/// Requests in each world.
const REQUESTS: u64 = 1000;

/// How many random cases this run makes.
pub(crate) fn cases() -> u64 {
    let asked = std::env::var("TACIT_CASES").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(CASES)
}

/// Where this run begins: `TACIT_SEED`, else the commit, so that each commit has cases of its own.
pub(crate) fn seed() -> u64 {
    if let Some(seed) = std::env::var("TACIT_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
    {
        return seed;
    }
    let output = std::process::Command::new("git")
        .args(["rev-parse", "HEAD"])
        .output();
    let commit = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&commit);
    u64::from_str_radix(text.get(..15).unwrap_or("1"), 16).unwrap_or(1)
}

/// Compares the answers of one world.
fn compare(seed: u64, number: u64, random: &mut Random, world: &World, seen: &mut [u64; 3]) {
    let engine = Engine::new(world);
    let reference = Reference::new(world, None);
    for (policy, armed) in reference.armed() {
        let found = engine.armed(&policy);
        assert_eq!(
            found,
            Some(armed),
            "TACIT_SEED={seed}, world {number}, {policy}"
        );
        seen[armed as usize] += 1;
    }
    for _ in 0..REQUESTS {
        let request = request(random, world.illnesses.len());
        let (expected, found) = (reference.answer(&request), engine.answer(&request));
        if expected != found {
            let documents: Vec<String> = world
                .documents
                .iter()
                .map(|document| format!("{document:?}"))
                .collect();
            panic!(
                "TACIT_SEED={seed}, world {number}\n{request:?}\nillness {:?}\nready {:?}\n{}\n\
                 the engine says {found:#?}\nthe reference says {expected:#?}",
                world.illnesses[request.illness],
                world.ready,
                documents.join("\n")
            );
        }
    }
}

#[test]
fn the_engine_agrees_with_the_reference() {
    let (seed, worlds) = (seed(), cases().div_ceil(REQUESTS));
    let start = Instant::now();
    // How often each condition of a FailoverPolicy came up.
    let mut armed = [0; 3];
    for number in 0..worlds {
        let mut random = Random::new(seed, number);
        let world = worlds::world(&mut random);
        compare(seed, number, &mut random, &world, &mut armed);
    }
    println!(
        "{worlds} worlds with {REQUESTS} requests each, 0 differences, {:?}, TACIT_SEED={seed}",
        start.elapsed()
    );
    assert!(armed.iter().all(|count| *count > 0), "{armed:?}");
}
