//! Random requests.

use std::collections::BTreeMap;

use tacit_reference::{Caller, Proof, Request};

use crate::random::Random;
use crate::worlds::{NAMESPACES, SERVICES};

/// Paths with their canonical forms.
const PATHS: [(&str, Option<&str>); 14] = [
    ("/", Some("/")),
    ("/a", Some("/a")),
    ("/a/", Some("/a/")),
    ("/a/b", Some("/a/b")),
    ("/a/b/c", Some("/a/b/c")),
    ("/ab", Some("/ab")),
    ("/x", Some("/x")),
    ("/x/y", Some("/x/y")),
    ("/x/../a", Some("/a")),
    ("/%61", Some("/a")),
    ("//a//b", Some("/a/b")),
    ("/a%2fb", Some("/a/b")),
    ("/a%zz", None),
    ("/a\\b", None),
];
const HOSTS: [&str; 7] = [
    "pay.shop",
    "Pay.Shop:80",
    "q.pay.shop.",
    "shop.example.com",
    "new.example.com",
    "example.com",
    "",
];

pub(crate) fn request(random: &mut Random, illnesses: usize) -> Request {
    let (namespace, service, _) = match random.below(4) {
        0 | 1 => SERVICES[2],
        2 => SERVICES[3],
        _ => random.of(&SERVICES),
    };
    let (path, canonical) = if random.one_in(16) {
        PATHS[12 + random.below(2)]
    } else {
        PATHS[random.below(12)]
    };
    let mut headers = BTreeMap::new();
    for name in ["x-a", "x-b"] {
        if random.one_in(2) {
            headers.insert(name.to_owned(), random.of(&["1", "2"]).to_owned());
        }
    }
    if random.one_in(2) {
        let media = [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc-web",
        ];
        headers.insert("content-type".to_owned(), random.of(&media).to_owned());
    }
    Request {
        caller: caller(random),
        service: format!("{namespace}/{service}"),
        port: random.of(&[80, 80, 9000]),
        method: random.of(&["GET", "POST", "POST", "PUT"]).to_owned(),
        path: path.to_owned(),
        canonical: canonical.map(str::to_owned),
        query: random.of(&["", "q=1", "q=2", "p=1&q=2&q=1"]).to_owned(),
        host: random.of(&HOSTS).to_owned(),
        headers,
        illness: random.below(illnesses),
        pick: random.below(720),
    }
}

fn caller(random: &mut Random) -> Caller {
    let zone = random.of(&["a", "b", "c", ""]);
    let region = match zone {
        "" => random.of(&["", "r1"]),
        "c" => "r2",
        _ => random.of(&["r1", "r1", "r2"]),
    };
    Caller {
        namespace: random.of(&NAMESPACES).to_owned(),
        account: random.of(&["web", "pay", "job"]).to_owned(),
        proof: match random.below(8) {
            0 => Proof::None,
            1 => Proof::Foreign("far.example".to_owned()),
            _ => Proof::Local,
        },
        address: random
            .of(&["10.0.0.1", "10.1.2.3", "10.200.0.1", "192.0.2.1"])
            .parse()
            .unwrap(),
        region: region.to_owned(),
        zone: zone.to_owned(),
    }
}
