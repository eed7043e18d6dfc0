//! Evaluates the CEL rules of a grant over the spec of an object.

use std::collections::HashMap;
use std::sync::Arc;

use cel::{Context, ExecutionError, Program, Value};
use serde_json::Value as Json;
use tacit_api::values::DurationText;

/// Longest rule, in bytes: a rule is one comparison or a few, and parsing recurses.
pub(crate) const RULE_MAX: usize = 2048;

/// Most values of a spec that rules look at: a rule over two nested lists then takes a million
/// steps at most. A policy of that size is the administrator's business.
pub(crate) const VALUES_MAX: usize = 1000;

/// What a rule says of a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The rule holds, or a field that it looks at is absent.
    Kept,
    /// The rule does not hold.
    Broken,
    /// The rule is no rule: what is wrong, for people.
    Faulty(String),
}

/// Checks that a rule can be evaluated at all.
pub(crate) fn compile(rule: &str) -> Result<Program, String> {
    if rule.len() > RULE_MAX {
        return Err(format!("the rule is longer than {RULE_MAX} bytes"));
    }
    Program::compile(rule).map_err(|errors| {
        let text = errors.to_string();
        let first = text.lines().next().unwrap_or_default();
        // The parser says `ERROR: <input>:1:22: ` first; there is only one rule to look at.
        let said = first.splitn(5, ':').last().unwrap_or(first).trim();
        // It ends with every token that could follow, which helps nobody.
        let said = said.split(" expecting ").next().unwrap_or(said);
        format!("the rule is not CEL: {said}")
    })
}

/// Evaluates a rule with `spec` bound, and `duration()` for GEP-2257 texts.
pub(crate) fn evaluate(rule: &str, spec: &Json) -> Outcome {
    let program = match compile(rule) {
        Ok(program) => program,
        Err(fault) => return Outcome::Faulty(fault),
    };
    if count(spec) > VALUES_MAX {
        return Outcome::Faulty(format!("the spec has more than {VALUES_MAX} values"));
    }
    let mut context = Context::default();
    if let Err(error) = context.add_function("duration", duration) {
        return Outcome::Faulty(error.to_string());
    }
    context.add_variable_from_value("spec", value(spec));
    match program.execute(&context) {
        Ok(Value::Bool(true)) => Outcome::Kept,
        Ok(Value::Bool(false)) => Outcome::Broken,
        Ok(other) => {
            let kind = other.type_of();
            Outcome::Faulty(format!("the rule is {kind}, not true or false"))
        }
        // Rules are guarded: what is not written cannot be over a limit.
        Err(ExecutionError::NoSuchKey(_)) => Outcome::Kept,
        Err(error) => Outcome::Faulty(format!("the rule cannot be evaluated: {error}")),
    }
}

/// Nanoseconds of a GEP-2257 text: comparable, and as exact as CEL's own durations.
fn duration(text: Arc<String>) -> Result<i64, ExecutionError> {
    let failed = |message: String| ExecutionError::function_error("duration", message);
    let parsed = DurationText::try_from(text.as_str()).map_err(|bad| failed(bad.message))?;
    i64::try_from(parsed.duration().as_nanos()).map_err(|_| failed("too long".to_owned()))
}

fn count(json: &Json) -> usize {
    1 + match json {
        Json::Array(items) => items.iter().map(count).sum(),
        Json::Object(map) => map.values().map(count).sum(),
        Json::Bool(_) | Json::Null | Json::Number(_) | Json::String(_) => 0,
    }
}

/// Whole numbers become CEL's `int`, so that rules need no `u` suffix.
fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Value::Int(number),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(items) => Value::List(Arc::new(items.iter().map(value).collect())),
        Json::Object(map) => {
            let map: HashMap<String, Value> = map
                .iter()
                .map(|(key, json)| (key.clone(), value(json)))
                .collect();
            map.into()
        }
    }
}

/// Field paths below `spec` that a rule mentions, in its order; methods and texts are left out.
pub(crate) fn fields_of(rule: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut chars = rule.chars().peekable();
    let mut word = String::new();
    let mut quote = None;
    loop {
        let next = chars.next();
        let in_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
        if let Some(c) = next.filter(|c| quote.is_none() && in_word(*c)) {
            word.push(c);
            continue;
        }
        let mut path = std::mem::take(&mut word);
        if next == Some('(') {
            // The last part is a method, as in `spec.retry.on.exists(...)`.
            path.truncate(path.rfind('.').unwrap_or(0));
        }
        if path.starts_with("spec.") {
            fields.push(path);
        }
        match (next, quote) {
            (None, _) => return fields,
            (Some(c @ ('"' | '\'')), None) => quote = Some(c),
            (Some('\\'), Some(_)) => drop(chars.next()),
            (Some(c), Some(open)) if c == open => quote = None,
            (Some(_), _) => {}
        }
    }
}

/// The first field that the rule mentions and the spec has, for the caret: `spec.retry.attempts`.
pub(crate) fn field_of(rule: &str, spec: &Json) -> Option<String> {
    let exists = |path: &String| {
        let mut parts = path.split('.').skip(1);
        parts.try_fold(spec, |json, part| json.get(part)).is_some()
    };
    fields_of(rule).into_iter().find(exists)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules() {
        let spec = json!({
            "retry": {"attempts": 50, "on": ["Reset", "ServerError"]},
            "timeout": {"request": "1m30s"},
        });
        let kept = Outcome::Kept;
        let broken = Outcome::Broken;
        for (rule, outcome) in [
            ("spec.retry.attempts <= 3", &broken),
            ("spec.retry.attempts <= 50", &kept),
            (
                "spec.retry.attempts == 50 && size(spec.retry.on) == 2",
                &kept,
            ),
            ("spec.retry.budget.retryPercent <= 20", &kept),
            (
                "!has(spec.retry.budget) || spec.retry.budget.retryPercent <= 20",
                &kept,
            ),
            ("has(spec.retry.attempts)", &kept),
            ("has(spec.retry.budget)", &broken),
            ("has(spec.hedge.max)", &kept),
            // A limit that is not kept is not hidden by a field that is absent.
            ("spec.retry.attempts <= 3 && spec.hedge.max <= 1", &broken),
            ("spec.hedge.max <= 1 && spec.retry.attempts <= 3", &broken),
            (
                r#"duration(spec.timeout.request) <= duration("10s")"#,
                &broken,
            ),
            (r#"duration(spec.timeout.request) <= duration("2m")"#, &kept),
            (r#"duration(spec.timeout.perTry) <= duration("1s")"#, &kept),
            ("spec.retry.on.all(o, o != 'ServerError')", &broken),
            ("spec.retry.on.exists(o, o == 'Reset')", &kept),
            ("'Reset' in spec.retry.on", &kept),
            ("true", &kept),
            ("false", &broken),
        ] {
            assert_eq!(&evaluate(rule, &spec), outcome, "{rule}");
        }
    }

    #[test]
    fn a_rule_that_cannot_be_evaluated_refuses() {
        let spec = json!({"retry": {"attempts": 1, "on": ["Reset"]}});
        let deep = format!("{}true{}", "(".repeat(900), ")".repeat(900));
        let long = "true || ".repeat(300) + "true";
        for rule in [
            "",
            "spec.retry.attempts <=",
            "spec.retry.attempts",
            "spec.retry.attempts <= '3'",
            "nothing <= 3",
            "unknown(spec)",
            "duration('soon') <= duration('1s')",
            "1 / 0 == 1",
            "spec.retry.on[5] == 'Reset'",
            "\0",
            &deep,
            &long,
        ] {
            let outcome = evaluate(rule, &spec);
            assert!(matches!(outcome, Outcome::Faulty(_)), "{rule}: {outcome:?}");
        }
        let big = json!({"on": vec!["Reset"; 1001]});
        assert!(matches!(evaluate("true", &big), Outcome::Faulty(_)));
    }

    #[test]
    fn the_fields_of_a_rule() {
        for (rule, fields) in [
            ("spec.a.b <= 3 && !has(spec.c)", vec!["spec.a.b", "spec.c"]),
            (
                "spec.on.exists(o, o == 'spec.x \\' spec.y') || spec.z",
                vec!["spec.on", "spec.z"],
            ),
            ("duration(spec.t) <= duration(\"spec.u\")", vec!["spec.t"]),
            ("size(spec.l[0].m) == 1", vec!["spec.l"]),
            ("special.a", vec![]),
            ("'spec.a", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(fields_of(rule), fields, "{rule}");
        }
    }

    #[test]
    fn the_field_of_a_rule() {
        let spec = json!({"retry": {"attempts": 50}});
        let field = |rule| field_of(rule, &spec);
        assert_eq!(
            field("spec.retry.attempts <= 3").as_deref(),
            Some("spec.retry.attempts")
        );
        assert_eq!(
            field("!has(spec.hedge) || spec.retry.attempts <= 3").as_deref(),
            Some("spec.retry.attempts")
        );
        assert_eq!(field("spec.hedge.max <= 3"), None);
        assert_eq!(field("true"), None);
    }

    /// Pieces of rules, whole and broken.
    const PIECES: &[&str] = &[
        "spec",
        ".retry",
        ".attempts",
        ".on",
        "[0]",
        "['on']",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        " <= ",
        " == ",
        " in ",
        " && ",
        " || ",
        "!",
        "-",
        " ? ",
        " : ",
        ", ",
        "3",
        "3u",
        "1.5",
        "'a'",
        "\"",
        "'",
        "\\",
        "b'a'",
        "true",
        "null",
        "has(",
        "size(",
        "duration('1s')",
        ".all(x, ",
        ".map(x, ",
        ".exists(o, o == 'Reset')",
        "9223372036854775807",
        " + ",
        " * ",
        " / ",
        " % ",
        "int(",
        "string(",
        "type(",
        ".matches('(')",
        "é",
        "\0",
        "\n",
        "//",
        "cel.bind(",
        "0x",
        "1e999",
    ];

    proptest::proptest! {
        #[test]
        fn any_rule_is_survived(
            parts in proptest::collection::vec(proptest::sample::select(PIECES), 0..24),
            noise in proptest::prelude::any::<String>(),
        ) {
            let spec = json!({"retry": {"attempts": 50, "on": ["Reset", "ServerError"]}});
            for rule in [parts.concat(), noise] {
                let _ = evaluate(&rule, &spec);
                let _ = fields_of(&rule);
            }
        }
    }
}
