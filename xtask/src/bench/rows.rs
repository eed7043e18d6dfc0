//! What is measured: the series of runs, and the rows of the result with their targets.

use super::contender::Contender;

/// Runs that share one set-up: each start of a contender does all the work of its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Series {
    /// Bytes of connections whose protocol nobody looks at.
    L4,
    /// The bulk of `L4` again, with a C library that never copies by `rep movsb`: on some AMD
    /// processors that instruction is 20 times slower at unlucky offsets, and whoever copies less
    /// would win by that alone.
    L4PlainCopy,
    /// HTTP with retries and timeouts.
    L7,
}

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// One connection that sends as fast as it can; its unit is a byte.
    Bulk,
    /// 32 keep-alive connections with one request each at a time; its unit is a request.
    Requests,
}

/// One line of the result.
pub(crate) struct Row {
    pub(crate) series: Series,
    pub(crate) work: Work,
    pub(crate) title: &'static str,
    pub(crate) against: Contender,
    /// The largest ratio (Tacit / the other) that is promised; `None`: for information.
    pub(crate) target: Option<f64>,
}

pub(crate) const ROWS: [Row; 5] = [
    Row {
        series: Series::L4,
        work: Work::Bulk,
        title: "L4, CPU per byte",
        against: Contender::Ztunnel,
        target: Some(1.0),
    },
    Row {
        series: Series::L4,
        work: Work::Requests,
        title: "L4, CPU per request",
        against: Contender::Ztunnel,
        target: Some(1.0),
    },
    Row {
        series: Series::L4PlainCopy,
        work: Work::Bulk,
        title: "L4, CPU per byte, no rep movsb",
        against: Contender::Ztunnel,
        target: None,
    },
    Row {
        series: Series::L7,
        work: Work::Requests,
        title: "L7, CPU per request",
        against: Contender::Envoy,
        target: Some(0.5),
    },
    Row {
        series: Series::L7,
        work: Work::Requests,
        title: "L7, CPU per request",
        against: Contender::Haproxy,
        target: None,
    },
];

impl Series {
    pub(crate) const ALL: [Self; 3] = [Self::L4, Self::L4PlainCopy, Self::L7];

    /// The series that an argument means.
    pub(crate) fn named(name: &str) -> Result<Vec<Self>, String> {
        match name {
            "l4" => Ok(vec![Self::L4]),
            "l4-plain-copy" => Ok(vec![Self::L4PlainCopy]),
            "l7" => Ok(vec![Self::L7]),
            _ => Err(format!(
                "no series {name:?}; there are l4, l4-plain-copy, l7"
            )),
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::L4 => "L4",
            Self::L4PlainCopy => "L4 with GLIBC_TUNABLES=glibc.cpu.x86_rep_movsb_threshold",
            Self::L7 => "L7, retries and timeouts on",
        }
    }

    pub(crate) fn contenders(self) -> Vec<Contender> {
        match self {
            Self::L4 | Self::L4PlainCopy => vec![Contender::Tacit, Contender::Ztunnel],
            Self::L7 => vec![Contender::Tacit, Contender::Envoy, Contender::Haproxy],
        }
    }

    pub(crate) fn work(self) -> &'static [Work] {
        match self {
            Self::L4 => &[Work::Bulk, Work::Requests],
            Self::L4PlainCopy => &[Work::Bulk],
            Self::L7 => &[Work::Requests],
        }
    }

    /// What the environment of every proxy of the series has in addition.
    pub(crate) fn environment(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::L4 | Self::L7 => None,
            Self::L4PlainCopy => Some((
                "GLIBC_TUNABLES",
                "glibc.cpu.x86_rep_movsb_threshold=100000000",
            )),
        }
    }
}
