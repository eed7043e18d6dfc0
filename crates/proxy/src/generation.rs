//! The last generation on disk, so that a node starts again without the control plane.

use tacit_model::{Generation, Snapshot, Tables};
use tacit_wire::Encoded;
use tacit_wire::encoded::{Table, decode};

use crate::sealed::{Seal, Unusable};
use crate::state_dir::StateDir;

/// The file's name.
const FILE: &str = "generation";
/// The form of the content; another number is another form.
const FORM: u64 = 1;

/// A generation as it was kept.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) snapshot: Snapshot,
    pub(crate) tables: Tables,
}

/// Keeps a generation.
pub(crate) fn save(
    dir: &StateDir,
    seal: &Seal,
    generation: Generation,
    tables: &Tables,
) -> std::io::Result<()> {
    seal.write(dir, FILE, &encode(generation, tables))
}

/// Reads what was kept; `None` if nothing was.
pub(crate) fn load(dir: &StateDir, seal: &Seal) -> Result<Option<Kept>, Unusable> {
    let Some(content) = seal.read(dir, FILE)? else {
        return Ok(None);
    };
    open(&content).map(Some).map_err(Unusable::Content)
}

/// A generation of what [`encode`] made of it.
pub(crate) fn open(content: &[u8]) -> Result<Kept, String> {
    let (generation, tables) = read(content)?;
    let snapshot = Snapshot::build(generation, &tables).map_err(|open| open.to_string())?;
    Ok(Kept { snapshot, tables })
}

/// Forgets what was kept: the node joins anew.
pub(crate) fn forget(dir: &StateDir) -> std::io::Result<()> {
    dir.remove(FILE)
}

/// Form, epoch, number, then for each row: table, name and value, each with its length.
pub(crate) fn encode(generation: Generation, tables: &Tables) -> Vec<u8> {
    let mut out = Vec::new();
    for number in [FORM, generation.epoch, generation.number] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    for row in tables.0.values() {
        let row = Encoded::new(row);
        for part in [
            row.key.table.type_url().as_bytes(),
            row.key.name.as_bytes(),
            &row.value,
        ] {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(part);
        }
    }
    out
}

fn read(content: &[u8]) -> Result<(Generation, Tables), String> {
    let mut rest = content;
    let form = number(&mut rest)?;
    if form != FORM {
        return Err(format!("form {form}, this version reads form {FORM}"));
    }
    let generation = Generation {
        epoch: number(&mut rest)?,
        number: number(&mut rest)?,
    };
    let mut tables = Tables::default();
    while !rest.is_empty() {
        let type_url = text(part(&mut rest)?)?;
        let name = text(part(&mut rest)?)?;
        let value = part(&mut rest)?;
        let table = Table::of_type_url(type_url).ok_or_else(|| format!("a row of {type_url}"))?;
        let row = decode(table, name, value).map_err(|e| format!("row {name}: {e}"))?;
        tables.0.insert(row.key(), row);
    }
    Ok((generation, tables))
}

fn number(rest: &mut &[u8]) -> Result<u64, String> {
    let (bytes, tail) = rest.split_first_chunk::<8>().ok_or("it ends early")?;
    *rest = tail;
    Ok(u64::from_be_bytes(*bytes))
}

fn part<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let length = usize::try_from(number(rest)?).unwrap_or(usize::MAX);
    let (bytes, tail) = rest.split_at_checked(length).ok_or("it ends early")?;
    *rest = tail;
    Ok(bytes)
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::tests::tables;
    use crate::state_dir::tests::scratch;

    #[test]
    fn what_was_kept_comes_back_and_nothing_else() {
        let (_guard, dir) = scratch();
        let seal = Seal::new(b"node key");
        assert!(load(&dir, &seal).expect("reads").is_none());
        let generation = Generation {
            epoch: 17,
            number: 4,
        };
        save(&dir, &seal, generation, &tables()).expect("writes");
        let kept = load(&dir, &seal).expect("reads").expect("is there");
        assert_eq!(kept.tables, tables());
        assert_eq!(kept.snapshot.generation, generation);
        assert_eq!(kept.snapshot.services.len(), 3);

        let mut file = dir.read(FILE).expect("reads").expect("is there");
        let last = file.len() - 1;
        file[last] ^= 1;
        dir.write(FILE, &file).expect("writes");
        assert!(matches!(load(&dir, &seal), Err(Unusable::Broken)));
        forget(&dir).expect("removes");
        assert!(load(&dir, &seal).expect("reads").is_none());
    }

    #[test]
    fn a_sealed_file_of_another_form_is_refused() {
        let (_guard, dir) = scratch();
        let seal = Seal::new(b"node key");
        let good = encode(
            Generation {
                epoch: 1,
                number: 1,
            },
            &tables(),
        );
        for cut in 1..good.len() {
            seal.write(&dir, FILE, &good[..cut]).expect("writes");
            // A cut between rows can leave fewer rows, but never more or others.
            if let Ok(Some(kept)) = load(&dir, &seal) {
                assert!(kept.tables.0.len() < tables().0.len());
            }
        }
        let mut other = good;
        other[7] = 2;
        seal.write(&dir, FILE, &other).expect("writes");
        assert!(matches!(load(&dir, &seal), Err(Unusable::Content(_))));
    }
}
