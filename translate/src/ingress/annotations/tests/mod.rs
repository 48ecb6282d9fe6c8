//! Every annotation that ingress-nginx has, and what becomes of it.

mod rows;

use self::rows::{DENIES, DENIES_WHEN_EMPTY, DONE, INVISIBLE, Restricts, SPACED, TRIMMED, WARNS, Works};
use super::*;
use crate::problem::Severity;

const NGINX: &str = "nginx.ingress.kubernetes.io";
const PENSTOCK: &str = "penstock.dev";

type Parsed = Result<(Arc<Annotations>, Vec<Problem>), Vec<Problem>>;

fn parse(pairs: &[(&str, &str)]) -> Parsed {
    let annotations = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let mut problems = Problems::default();
    let parsed = Annotations::parse(Some(&annotations), &[NGINX.to_owned(), PENSTOCK.to_owned()], &mut problems);
    let Problems { errors, warnings } = problems;
    if errors.is_empty() { Ok((parsed, warnings)) } else { Err(errors) }
}

fn parse_one(name: &str, value: &str) -> Parsed {
    parse(&[(&format!("{NGINX}/{name}"), value)])
}

#[track_caller]
fn assert_refused(name: &str, value: &str) {
    let problems = parse_one(name, value).expect_err(&format!("{name}: {value:?} is accepted"));
    let [problem] = &problems[..] else { panic!("{name}: {problems:?}") };
    assert_eq!(problem.reason, Reason::AnnotationParsingFailed);
    assert_eq!(problem.severity, Severity::Error);
    assert_eq!(problem.field, format!("metadata.annotations[{NGINX}/{name}]"));
    assert!(!problem.message.contains('\n') && problem.message.len() < 4096, "{problem}");
}

#[test]
fn every_annotation_of_ingress_nginx_is_in_the_state_that_is_asked_for() {
    let of_state = |is_of: fn(&State) -> bool| -> Vec<&str> {
        let mut names: Vec<_> = ANNOTATIONS.iter().filter(|row| is_of(&row.state)).map(|row| row.name).collect();
        names.sort_unstable();
        names
    };
    let sorted = |names: Vec<&'static str>| -> Vec<&str> {
        let mut names = names;
        names.sort_unstable();
        names
    };
    let done = sorted(DONE.iter().map(|row| row.name).collect());
    let denies = sorted(DENIES.iter().map(|row| row.name).collect());
    let warns = sorted(WARNS.to_vec());
    assert_eq!(of_state(|state| matches!(state, State::Done(_) | State::DoneOrDenies(..))), done);
    assert_eq!(of_state(|state| matches!(state, State::Denies(..))), denies);
    assert_eq!(of_state(|state| matches!(state, State::Warns(_))), warns);
    let mut all = [done, denies, warns].concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 136);
}

#[test]
fn a_value_of_the_grammar_is_accepted_and_leaves_its_trace() {
    for Works { name, accepted, refused: _ } in DONE {
        for value in *accepted {
            let (_, warnings) = parse_one(name, value).unwrap_or_else(|error| panic!("{name}: {value:?}: {error:?}"));
            assert_eq!(warnings, [], "{name}: {value:?}");
        }
        let traces: Vec<_> = accepted.iter().filter_map(|value| parse_one(name, value).ok()).collect();
        let has_trace = traces.iter().any(|(parsed, _)| **parsed != Annotations::default());
        assert_eq!(has_trace, !INVISIBLE.contains(name), "{name}");
    }
}

#[test]
fn a_value_out_of_the_grammar_refuses_the_object() {
    for Works { name, accepted: _, refused } in DONE {
        refused.iter().for_each(|value| assert_refused(name, value));
    }
}

#[test]
fn no_accepted_value_can_be_extended_into_configuration() {
    let injections =
        ["\n", "\r", "\r\n", ";", "}", "{", "$(", "${", "\"", "'", "#", "\0", " ", "\t", "\u{7f}", "`", "|", "<", "\\"];
    for Works { name, accepted, refused: _ } in DONE {
        for injection in injections {
            for end in ["", " return 200;", "\nx"] {
                let value = format!("{}{injection}{end}", accepted[0]);
                // White space around one of a few words is cut off, as it is in ingress-nginx.
                if TRIMMED.contains(name) && value.trim() == accepted[0] && !value.contains(['\n', '\r']) {
                    continue;
                }
                // These are signs of a regular expression.
                if ["canary-by-header-pattern", "auth-tls-match-cn"].contains(name)
                    && end.is_empty()
                    && matches!(injection, "|" | "}")
                {
                    continue;
                }
                let is_spaced = SPACED.contains(name) && (injection, end) == (" ", "");
                let is_trimmed = *name == "cors-allow-origin" && (injection, end) == ("\t", "");
                let is_list = ["server-alias", "limit-allowlist"].contains(name) || DENIES_WHEN_EMPTY.contains(name);
                if is_spaced || is_trimmed || (is_list && value.trim() == accepted[0] && !value.contains(['\n', '\r']))
                {
                    continue;
                }
                assert_refused(name, &value);
            }
        }
    }
}

#[test]
fn a_line_break_is_refused_wherever_it_stands() {
    for Works { name, accepted, refused: _ } in DONE {
        for value in [format!("\n{}", accepted[0]), format!("{}\n", accepted[0]), format!("{}\r", accepted[0])] {
            assert_refused(name, &value);
        }
    }
}

#[test]
fn a_value_of_64_kib_is_read_or_refused() {
    let long = "a".repeat(64 << 10);
    for Works { name, .. } in DONE {
        match *name {
            "rewrite-target" | "app-root" => assert!(parse_one(name, &format!("/{long}")).is_ok(), "{name}"),
            "permanent-redirect" | "temporal-redirect" => {
                assert!(parse_one(name, &format!("https://{long}")).is_ok(), "{name}");
            }
            _ => assert_refused(name, &long),
        }
        assert_refused(name, &"$".repeat(64 << 10));
        assert_refused(name, &"\u{fc}".repeat(32 << 10));
    }
    for name in DENIES.iter().map(|row| row.name).chain(WARNS.iter().copied()) {
        // A boolean or a number is refused; everything else is not looked at.
        if let Ok((_, warnings)) = parse_one(name, &long) {
            assert!(warnings.iter().all(|warning| warning.message.len() < 1000), "{name}");
        }
    }
}

#[test]
fn an_annotation_that_restricts_access_denies_by_its_activating_values_only() {
    for Restricts { name, activating, idle } in DENIES {
        let (parsed, problems) = parse_one(name, activating).unwrap();
        assert_eq!((parsed.denials.len(), parsed.host_denials.len()), (1, 0), "{name}");
        let [problem] = &problems[..] else { panic!("{name}: {problems:?}") };
        assert_eq!((problem.reason, problem.severity), (Reason::Denied, Severity::Error), "{name}");
        assert!(problem.message.contains(name), "{problem}");
        for value in *idle {
            let (parsed, problems) = parse_one(name, value).unwrap();
            assert_eq!(*parsed, Annotations::default(), "{name}: {value:?}");
            assert!(problems.iter().all(|problem| problem.severity == Severity::Warning), "{name}: {value:?}");
        }
    }
}

#[test]
fn a_restriction_that_cannot_be_read_refuses_the_object() {
    for (name, value) in [("ssl-passthrough", "yes"), ("enable-modsecurity", "on"), ("auth-always-set-cookie", "maybe")]
    {
        assert_refused(name, value);
    }
}

#[test]
fn what_is_known_and_not_spoken_is_denied() {
    for (name, value) in [("backend-protocol", "fcgi"), ("auth-type", "digest")] {
        let (parsed, problems) = parse_one(name, value).unwrap();
        assert_eq!((parsed.denials.len(), problems[0].reason), (1, Reason::Denied), "{name}");
    }
}

#[test]
fn a_harmless_annotation_warns_and_does_nothing_whatever_its_value() {
    for name in WARNS {
        for value in ["", "x", "true", "a\nb", "; }"] {
            let (parsed, problems) = parse_one(name, value).unwrap();
            assert_eq!(*parsed, Annotations::default(), "{name}");
            let [problem] = &problems[..] else { panic!("{name}: {problems:?}") };
            assert_eq!((problem.reason, problem.severity), (Reason::AnnotationIgnored, Severity::Warning), "{name}");
            assert!(problem.message.contains(name), "{problem}");
        }
    }
}

#[test]
fn an_empty_value_is_none() {
    for Works { name, .. } in DONE.iter().filter(|row| !DENIES_WHEN_EMPTY.contains(&row.name)) {
        for value in ["", " ", "\n"] {
            let (parsed, problems) = parse_one(name, value).unwrap();
            assert_eq!(*parsed, Annotations::default(), "{name}");
            assert_eq!(problems[0].reason, Reason::AnnotationIgnored, "{name}");
        }
    }
}

#[test]
fn an_empty_access_list_lets_nobody_in() {
    for name in DENIES_WHEN_EMPTY {
        for value in ["", " ", "\n"] {
            let (parsed, problems) = parse_one(name, value).unwrap();
            assert_eq!((parsed.denials.len(), problems[0].reason), (1, Reason::Denied), "{name} {value:?}");
        }
    }
}

#[test]
fn an_unknown_name_under_a_prefix_of_ours_warns() {
    let (parsed, problems) = parse(&[
        ("nginx.ingress.kubernetes.io/rewrite-targets", "/"),
        ("nginx.ingress.kubernetes.io/", "x"),
        ("penstock.dev/Rewrite-Target", "/"),
        ("nginx.ingress.kubernetes.io.example/use-regex", "true"),
        ("example.com/use-regex", "true"),
        ("use-regex", "true"),
        ("kubernetes.io/ingress.class", "nginx"),
    ])
    .unwrap();
    assert_eq!(*parsed, Annotations::default());
    let fields: Vec<_> = problems.iter().map(|problem| (problem.reason, problem.field.as_str())).collect();
    assert_eq!(
        fields,
        [
            (Reason::AnnotationUnknown, "metadata.annotations[nginx.ingress.kubernetes.io/]"),
            (Reason::AnnotationUnknown, "metadata.annotations[penstock.dev/Rewrite-Target]"),
            (Reason::AnnotationUnknown, "metadata.annotations[nginx.ingress.kubernetes.io/rewrite-targets]"),
        ]
    );
}

#[test]
fn the_prefix_that_stands_first_wins() {
    let both = [("penstock.dev/app-root", "/penstock"), ("nginx.ingress.kubernetes.io/app-root", "/nginx")];
    let root = |pairs: &[(&str, &str)]| parse(pairs).unwrap().0.app_root.clone().unwrap().as_str().to_owned();
    assert!(root(&both).ends_with("/nginx"));
    assert!(root(&both[..1]).ends_with("/penstock"));
    assert!(root(&[both[0], ("nginx.ingress.kubernetes.io/app-root", "")]).ends_with("/penstock"));
    // What loses is not looked at.
    assert!(parse(&[both[1], ("penstock.dev/app-root", "not a path")]).is_ok());
    assert!(parse(&[both[0], ("nginx.ingress.kubernetes.io/app-root", "not a path")]).is_err());
}

#[test]
fn an_older_spelling_is_the_same_annotation() {
    for (old, new) in [("whitelist-source-range", "allowlist-source-range"), ("limit-whitelist", "limit-allowlist")] {
        assert_eq!(parse_one(old, "10.0.0.0/8").unwrap().0, parse_one(new, "10.0.0.0/8").unwrap().0);
        let (_, problems) = parse_one(old, "").unwrap();
        assert!(problems[0].field.contains(old) && problems[0].message.contains(new), "{problems:?}");
    }
    let (both, _) = parse(&[
        ("nginx.ingress.kubernetes.io/whitelist-source-range", "10.0.0.0/8"),
        ("nginx.ingress.kubernetes.io/allowlist-source-range", "192.0.2.0/24"),
    ])
    .unwrap();
    assert_eq!(both, parse_one("allowlist-source-range", "192.0.2.0/24").unwrap().0);
}

#[test]
fn every_bad_value_is_told_at_once() {
    let problems = parse(&[
        ("nginx.ingress.kubernetes.io/use-regex", "yes"),
        ("nginx.ingress.kubernetes.io/app-root", "app"),
        ("penstock.dev/canary", "no"),
        ("nginx.ingress.kubernetes.io/auth-url", "https://auth.example.com"),
    ])
    .unwrap_err();
    assert_eq!(problems.len(), 3);
}

#[test]
fn ingresses_without_annotations_share_one_value() {
    let first = Annotations::parse(None, &[], &mut Problems::default());
    let second = parse(&[("example.com/x", "y")]).unwrap().0;
    assert!(Arc::ptr_eq(&first, &second));
}
