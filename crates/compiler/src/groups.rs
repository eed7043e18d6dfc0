//! Workloads by class and by place.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tacit_model::Locality;
use tacit_model::tables::{ClassKey, WorkloadRow};

/// What all workloads of a mesh have in common with each other.
#[derive(Debug)]
pub(crate) struct Groups<'r> {
    /// The workloads of each class, both in the order of their keys.
    pub(crate) classes: Vec<(&'r Arc<ClassKey>, Vec<&'r Arc<WorkloadRow>>)>,
    /// How many workloads are at each place.
    pub(crate) places: BTreeMap<&'r Locality, usize>,
}

impl<'r> Groups<'r> {
    /// Groups rows in the order of their names, of which those of a class share its key, and
    /// those of a place its texts: addresses are compared, not texts.
    pub(crate) fn new(rows: &'r [Arc<WorkloadRow>]) -> Self {
        let mut classes: Vec<(&Arc<ClassKey>, Vec<_>)> = Vec::new();
        let mut known: HashMap<*const ClassKey, usize> = HashMap::new();
        let mut counts: HashMap<[*const u8; 3], (&Locality, usize)> = HashMap::new();
        let mut namespace = None;
        for row in rows {
            if namespace != Some(&row.name.namespace) {
                known.clear();
                namespace = Some(&row.name.namespace);
            }
            let at = *known.entry(Arc::as_ptr(&row.class)).or_insert_with(|| {
                classes.push((&row.class, Vec::new()));
                classes.len() - 1
            });
            if let Some((_, members)) = classes.get_mut(at) {
                members.push(row);
            }
            let Locality {
                cluster,
                region,
                zone,
            } = &row.locality;
            let texts = [cluster.as_ptr(), region.as_ptr(), zone.as_ptr()];
            let (_, count) = counts.entry(texts).or_insert((&row.locality, 0));
            *count += 1;
        }
        classes.sort_by_key(|(key, _)| *key);
        let mut places = BTreeMap::new();
        for (place, count) in counts.into_values() {
            *places.entry(place).or_default() += count;
        }
        Self { classes, places }
    }
}
