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
                Judgement { denial: Some(sentences(problems.iter().map(ToString::to_string))), warnings: Vec::new() }
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
