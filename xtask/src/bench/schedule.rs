//! In which order samples are taken, so that a drift of the machine meets every contender alike.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::contender::Contender;
use super::machine::{FOREIGN_LIMIT, Gate};
use super::options::Plan;
use super::rows::Work;
use super::sample::{Measured, Sample};
use super::statistics::Chance;

/// The samples of one contender. Sample `i` of one is a pair with sample `i` of another; samples
/// `2n` and `2n + 1` are of the same block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs {
    pub(crate) samples: Vec<Sample>,
}

impl Plan {
    pub(crate) fn describe(&self, contenders: &[Contender]) -> String {
        let names: Vec<&str> = contenders
            .iter()
            .map(|contender| contender.name())
            .collect();
        let Self { blocks, seconds } = self;
        format!(
            "{} · {blocks} blocks there and back · {seconds} s per load",
            names.join(", ")
        )
    }
}

impl Runs {
    pub(crate) fn measured(&self, work: Work) -> impl Iterator<Item = &Measured> {
        self.samples
            .iter()
            .flat_map(|sample| &sample.measured)
            .filter(move |m| m.work == work)
    }

    /// Cost of each sample, in nanoseconds per unit.
    pub(crate) fn costs(&self, work: Work) -> Vec<f64> {
        self.measured(work).map(Measured::cost).collect()
    }

    /// The control: ratios of a contender to itself within a block, which should be one.
    pub(crate) fn control(&self, work: Work) -> Vec<f64> {
        let costs = self.costs(work);
        costs
            .chunks_exact(2)
            .map(|pair| pair[0] / pair[1])
            .collect()
    }
}

/// Takes the samples of a series: in each block every contender in a random order, then in the
/// reverse of it. A block in which others used the CPUs is taken again.
pub(crate) fn run(
    plan: &Plan,
    contenders: &[Contender],
    gate: Gate,
    mut take: impl FnMut(Contender, u32) -> Result<Sample, String>,
) -> Result<BTreeMap<Contender, Runs>, String> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|e| e.to_string())?;
    let mut chance = Chance(now.as_secs());
    let mut all: BTreeMap<Contender, Runs> = BTreeMap::new();
    let (mut good, mut thrown_away) = (0, 0);
    while good < plan.blocks {
        let mut block: Vec<(Contender, Sample)> = Vec::new();
        for contender in there_and_back(contenders, &mut chance) {
            block.push((contender, take(contender, plan.seconds)?));
        }
        let worst = foreign(&block);
        crate::say(&format!("  {}", line(&block, worst)));
        if gate == Gate::Idle && worst > FOREIGN_LIMIT {
            thrown_away += 1;
            if thrown_away > plan.blocks {
                return Err("others keep using the CPUs: give the machine to the benchmark".into());
            }
            crate::say("  (others used the CPUs: this block does not count)");
            continue;
        }
        good += 1;
        for (contender, sample) in block {
            all.entry(contender).or_default().samples.push(sample);
        }
    }
    Ok(all)
}

fn there_and_back(contenders: &[Contender], chance: &mut Chance) -> Vec<Contender> {
    let mut order = contenders.to_vec();
    for last in (1..order.len()).rev() {
        order.swap(last, chance.below(last + 1));
    }
    let back: Vec<Contender> = order.iter().rev().copied().collect();
    order.extend(back);
    order
}

/// The largest share that others had in any load of a block.
fn foreign(block: &[(Contender, Sample)]) -> f64 {
    let loads = block.iter().flat_map(|(_, sample)| &sample.measured);
    loads.map(|measured| measured.foreign).fold(0.0, f64::max)
}

fn line(block: &[(Contender, Sample)], foreign: f64) -> String {
    let mut parts = Vec::new();
    for (contender, sample) in block {
        let costs: Vec<String> = sample.measured.iter().map(cost).collect();
        parts.push(format!("{} {}", contender.name(), costs.join(", ")));
    }
    format!("{} · others {:.1} %", parts.join(" · "), foreign * 100.0)
}

fn cost(measured: &Measured) -> String {
    match measured.work {
        Work::Bulk => format!("{:.2} ns/B", measured.cost()),
        Work::Requests => format!("{:.1} µs", measured.cost() / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_its_own_mirror_and_holds_each_contender_twice() {
        let all = [Contender::Tacit, Contender::Envoy, Contender::Haproxy];
        let mut firsts = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let order = there_and_back(&all, &mut Chance(seed));
            let back: Vec<Contender> = order.iter().rev().copied().collect();
            assert_eq!(order, back);
            for contender in all {
                assert_eq!(order.iter().filter(|other| **other == contender).count(), 2);
            }
            firsts.insert(order[0]);
        }
        assert_eq!(firsts.len(), 3, "each contender begins at some time");
    }
}
