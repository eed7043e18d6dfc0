//! Measured results: promised counts that are met or missed, and times that are only reported.

use std::fmt::Write as _;

use serde::Serialize;

/// What a promised count must be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Bound {
    AtLeast(f64),
    Between(f64, f64),
    Exactly(f64),
    /// Not promised: reported beside the machine it was measured on.
    None,
}

/// How a figure compares to its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Verdict {
    Met,
    Missed,
    Reported,
}

/// One measured result.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Figure {
    pub(crate) act: &'static str,
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) bound: Bound,
    pub(crate) verdict: Verdict,
}

/// All results of a run, in the order they were measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Figures {
    pub(crate) figures: Vec<Figure>,
    /// Acts that could not be played to their end, with the reason: each counts as missed.
    pub(crate) broken: Vec<String>,
    /// What was left out, and why: neither met nor missed.
    pub(crate) skipped: Vec<String>,
}

impl Bound {
    fn verdict(self, value: f64) -> Verdict {
        let met = match self {
            Self::AtLeast(least) => value >= least,
            Self::Between(least, most) => (least..=most).contains(&value),
            Self::Exactly(wanted) => (value - wanted).abs() < f64::EPSILON,
            Self::None => return Verdict::Reported,
        };
        if met { Verdict::Met } else { Verdict::Missed }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {least}"),
            Self::Between(least, most) => format!("{least}–{most}"),
            Self::Exactly(wanted) => format!("{wanted}"),
            Self::None => String::new(),
        }
    }
}

impl Figures {
    /// Adds a result; returns its line for the narration.
    pub(crate) fn add(
        &mut self,
        act: &'static str,
        what: impl Into<String>,
        (value, unit): (f64, &'static str),
        bound: Bound,
    ) -> String {
        let figure = Figure {
            act,
            what: what.into(),
            value,
            unit,
            bound,
            verdict: bound.verdict(value),
        };
        let line = line(&figure);
        self.figures.push(figure);
        line
    }

    /// True when every promised count was met and every act was played.
    pub(crate) fn all_met(&self) -> bool {
        let missed = self
            .figures
            .iter()
            .any(|figure| figure.verdict == Verdict::Missed);
        !missed && self.broken.is_empty()
    }

    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for figure in &self.figures {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "({}) {}", figure.act, line(figure));
        }
        for broken in &self.broken {
            let _ = writeln!(text, "BROKEN  {broken}");
        }
        for skipped in &self.skipped {
            let _ = writeln!(text, "SKIPPED {skipped}");
        }
        text
    }
}

fn line(figure: &Figure) -> String {
    let Figure {
        what,
        value,
        unit,
        bound,
        ..
    } = figure;
    let verdict = match figure.verdict {
        Verdict::Met => format!("met ({})", bound.text()),
        Verdict::Missed => format!("MISSED ({})", bound.text()),
        Verdict::Reported => String::new(),
    };
    let digits = if value.fract() == 0.0 { 0 } else { 2 };
    format!("{what:<72} {value:>10.digits$} {unit:<3} {verdict}")
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
pub(crate) fn count(value: u64) -> (f64, &'static str) {
    (value as f64, "")
}

#[cfg(test)]
mod tests {
    use super::{Bound, Figures, count};

    #[test]
    fn verdicts() {
        let cases = [
            (Bound::AtLeast(3.0), 3, true),
            (Bound::AtLeast(3.0), 2, false),
            (Bound::Between(1.0, 2.0), 2, true),
            (Bound::Between(1.0, 2.0), 3, false),
            (Bound::Exactly(0.0), 0, true),
            (Bound::Exactly(0.0), 1, false),
            (Bound::None, 9, true),
        ];
        for (bound, value, met) in cases {
            let mut figures = Figures::default();
            figures.add("a", "x", count(value), bound);
            assert_eq!(figures.all_met(), met, "{bound:?} {value}");
        }
        let broken = Figures {
            broken: vec!["act".into()],
            ..Figures::default()
        };
        assert!(!broken.all_met());
    }
}
