//! Which Ingresses are refused before they exist, and of what their authors are warned. Pure: the translator looks at
//! the object as it would later, and forgets it again.

use serde_json::Value;
use translate::resources::Resource;
use translate::{Decoded, Preview, Problem, Reason, Severity, Translator, decode};

use crate::status::Classes;

/// The most sentences that an answer has: an object of a megabyte can have as many mistakes as it has lines.
const MAX_SENTENCES: usize = 10;

/// What is said about an Ingress.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Why it is refused; `None` when it is not.
    pub denial: Option<String>,
    /// What its author should know all the same.
    pub warnings: Vec<String>,
}

/// Judges an Ingress as it would be written.
pub(crate) fn judge(translator: &mut Translator, object: Value) -> Judgement {
    let classes = Classes::of(&object);
    match decode(object, translator.config()) {
        Decoded::Resource(resource, warnings) => match *resource {
            Resource::Ingress(ingress) => translator.preview(ingress, warnings).map(of_preview).unwrap_or_default(),
            _ => Judgement::default(),
        },
        Decoded::Refused(_, problems) => {
            let Classes { name, annotation } = classes;
            // What an Ingress of another controller says is none of our business.
            if translator.serves_class(name.as_deref(), annotation.as_deref()) {
                let (refused, others): (Vec<_>, Vec<_>) = problems
                    .iter()
                    .partition(|problem| problem.severity == Severity::Error && problem.reason != Reason::Denied);
                let denial = Some(sentences(refused.into_iter().map(ToString::to_string)));
                Judgement {
                    denial,
                    warnings: others.into_iter().take(MAX_SENTENCES).map(ToString::to_string).collect(),
                }
            } else {
                Judgement::default()
            }
        }
        Decoded::List(_) | Decoded::Ignored | Decoded::Unknown { .. } | Decoded::Empty => Judgement::default(),
    }
}

fn of_preview(preview: Preview) -> Judgement {
    let Preview { own, of_others } = preview;
    let (mut refused, mut warnings) = (Vec::new(), Vec::new());
    for problem in own {
        if is_refused(&problem) { &mut refused } else { &mut warnings }.push(problem.to_string());
    }
    for (other, problems) in of_others {
        for problem in problems {
            let takes_away = problem.reason == Reason::Conflict && problem.severity == Severity::Error;
            let list = if takes_away { &mut refused } else { &mut warnings };
            list.push(format!("Ingress {other} would be told: {problem}"));
        }
    }
    warnings.truncate(MAX_SENTENCES);
    let denial = (!refused.is_empty()).then(|| sentences(refused.into_iter()));
    Judgement { denial, warnings }
}

/// What nobody can have meant is refused. What is closed for safety (`Denied`) is warned about: it may be opened by
/// another object.
fn is_refused(problem: &Problem) -> bool {
    problem.severity == Severity::Error
        && matches!(
            problem.reason,
            Reason::Malformed | Reason::InvalidValue | Reason::AnnotationParsingFailed | Reason::Conflict
        )
}

fn sentences(problems: impl Iterator<Item = String>) -> String {
    problems.take(MAX_SENTENCES).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use translate::Config;

    use super::*;

    #[test]
    fn a_refusal_is_for_what_is_wrong_and_the_rest_is_warned_of() {
        let ingress = json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {
                "name": "a",
                "namespace": "default",
                "annotations": {
                    "nginx.ingress.kubernetes.io/ssl-redirect": "maybe",
                    "nginx.ingress.kubernetes.io/server-snippet": "deny all;",
                    "nginx.ingress.kubernetes.io/proxy-cookie-path": "/ /shop",
                },
            },
            "spec": {"rules": [{"host": "a..test"}]},
        });
        let mut config = Config::default();
        config.class.without_class = true;
        let Judgement { denial, warnings } = judge(&mut Translator::new(config), ingress);
        let denial = denial.unwrap();
        for (word, is_refused) in [("ssl-redirect", true), ("a..test", true), ("snippet", false), ("cookie", false)] {
            assert_eq!(denial.contains(word), is_refused, "{word}: {denial}");
            assert_eq!(warnings.iter().any(|warning| warning.contains(word)), !is_refused, "{word}: {warnings:?}");
        }
    }
}
