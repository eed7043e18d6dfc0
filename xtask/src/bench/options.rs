//! What the person who runs the benchmark asks for: arguments, and variables that name programs.

use std::path::PathBuf;

use super::rows::Series;

pub(crate) const USAGE: &str = "\
usage: cargo xtask bench [--quick] [--busy] [--only l4|l7]... [--blocks N] [--seconds N]
                         [--report FILE]
  --quick     about 2 minutes instead of about 10: wide intervals, for a first look
  --busy      measure although the machine is not idle; the figures are for a look only
  --only      only these series
  --blocks    how often each contender is started, halved
  --seconds   how long each load lasts
  --report    also write every sample as JSON
programs: TACIT_BENCH_TACIT, TACIT_BENCH_ZTUNNEL, TACIT_BENCH_ENVOY, TACIT_BENCH_HAPROXY name a
  binary; absent: target/dist/tacit, then what PATH has";

/// The options of one run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    quick: bool,
    pub(crate) busy: bool,
    only: Vec<Series>,
    blocks: Option<usize>,
    seconds: Option<u32>,
    pub(crate) report: Option<PathBuf>,
    pub(crate) programs: Programs,
}

/// Programs that the environment names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Programs {
    pub(crate) tacit: Option<PathBuf>,
    pub(crate) ztunnel: Option<PathBuf>,
    pub(crate) envoy: Option<PathBuf>,
    pub(crate) haproxy: Option<PathBuf>,
}

/// How often and how long a series runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// In a block each contender runs twice: there and back.
    pub(crate) blocks: usize,
    pub(crate) seconds: u32,
}

impl Options {
    pub(crate) fn read(arguments: &[&str]) -> Result<Self, String> {
        let named = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let mut options = Self {
            quick: false,
            busy: false,
            only: Vec::new(),
            blocks: None,
            seconds: None,
            report: None,
            programs: Programs {
                tacit: named("TACIT_BENCH_TACIT"),
                ztunnel: named("TACIT_BENCH_ZTUNNEL"),
                envoy: named("TACIT_BENCH_ENVOY"),
                haproxy: named("TACIT_BENCH_HAPROXY"),
            },
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || {
                rest.next()
                    .ok_or_else(|| format!("{argument} needs a value\n{USAGE}"))
            };
            match *argument {
                "--quick" => options.quick = true,
                "--busy" => options.busy = true,
                "--only" => options.only.extend(Series::named(value()?)?),
                "--blocks" => options.blocks = Some(number(argument, value()?)?),
                "--seconds" => options.seconds = Some(number(argument, value()?)?),
                "--report" => options.report = Some(value()?.into()),
                _ => return Err(format!("unknown option {argument}\n{USAGE}")),
            }
        }
        Ok(options)
    }

    /// The series to run, in order.
    pub(crate) fn series(&self) -> Vec<Series> {
        if !self.only.is_empty() {
            return self.only.clone();
        }
        let quick = [Series::L4, Series::L7];
        if self.quick {
            quick.into()
        } else {
            Series::ALL.into()
        }
    }

    pub(crate) fn plan(&self, series: Series) -> Plan {
        // Ten pairs are the least for an interval that means something.
        let usual = match (self.quick, series) {
            (true, _) => Plan {
                blocks: 2,
                seconds: 2,
            },
            (false, Series::L4 | Series::L7) => Plan {
                blocks: 6,
                seconds: 3,
            },
            (false, Series::L4PlainCopy) => Plan {
                blocks: 3,
                seconds: 3,
            },
        };
        Plan {
            blocks: self.blocks.unwrap_or(usual.blocks),
            seconds: self.seconds.unwrap_or(usual.seconds),
        }
    }
}

/// A whole number from 1 to 1000: more would be a mistake of the keyboard.
fn number<N: TryFrom<u32>>(option: &str, text: &str) -> Result<N, String> {
    text.parse::<u32>()
        .ok()
        .filter(|number| (1..=1000).contains(number))
        .and_then(|number| N::try_from(number).ok())
        .ok_or_else(|| format!("{option}: {text:?} is not a number from 1 to 1000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_or_refused() {
        let all = Options::read(&["--quick", "--busy", "--only", "l7", "--blocks", "3"]).unwrap();
        assert_eq!(
            (all.quick, all.busy, all.series()),
            (true, true, vec![Series::L7])
        );
        assert_eq!(
            (all.plan(Series::L7).blocks, all.plan(Series::L7).seconds),
            (3, 2)
        );
        assert_eq!(Options::read(&[]).unwrap().series(), Series::ALL);
        for wrong in [
            &["--blocks"][..],
            &["--blocks", "0"],
            &["--only", "l5"],
            &["--fast"],
        ] {
            assert!(Options::read(wrong).is_err(), "{wrong:?}");
        }
    }
}
