//! Which Ingresses are ours (`--ingress-class`, `--controller-class`, `--watch-ingress-without-class`,
//! `--ingress-class-by-name`).

use crate::config::{Config, Source};
use crate::ingress::Ingress;
use crate::resources::IngressClass;

/// Whether an Ingress is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClassDecision {
    /// It is.
    Served,
    /// It is not, for this reason.
    NotServed(String),
}

/// Decides whether an Ingress is ours, as ingress-nginx does: `spec.ingressClassName` first, then the annotation, then
/// whether Ingresses without either are wanted. `find` looks up an IngressClass by name.
pub(crate) fn decide<'a>(
    ingress: &Ingress,
    config: &Config,
    find: impl FnOnce(&str) -> Option<&'a IngressClass>,
) -> ClassDecision {
    decide_by_names(ingress.class_name.as_deref(), ingress.class_annotation.as_deref(), config, find)
}

/// The same by what an Ingress says alone: the field and the annotation.
pub(crate) fn decide_by_names<'a>(
    class_name: Option<&str>,
    class_annotation: Option<&str>,
    config: &Config,
    find: impl FnOnce(&str) -> Option<&'a IngressClass>,
) -> ClassDecision {
    let class = &config.class;
    if let Some(name) = class_name {
        return match find(name) {
            Some(found) if serves(found, config) => ClassDecision::Served,
            Some(found) => ClassDecision::NotServed(format!(
                "IngressClass {name} belongs to controller {:?}; this gateway serves {:?} (--controller-class)",
                found.controller, class.controller
            )),
            // A directory seldom has the object beside the Ingresses that name it.
            None if config.source == Source::Files && *name == *class.name => ClassDecision::Served,
            None => ClassDecision::NotServed(format!("there is no IngressClass {name}")),
        };
    }
    match class_annotation {
        // ingress-nginx takes an empty annotation for its own.
        Some(name) if name.is_empty() || *name == *class.name => ClassDecision::Served,
        Some(name) => ClassDecision::NotServed(format!(
            "annotation kubernetes.io/ingress.class is {name:?}; this gateway serves {:?} (--ingress-class)",
            class.name
        )),
        None if config.source == Source::Files || class.without_class => ClassDecision::Served,
        None => ClassDecision::NotServed("the Ingress names no class".to_owned()),
    }
}

fn serves(found: &IngressClass, config: &Config) -> bool {
    let class = &config.class;
    *found.controller == *class.controller || (class.by_name && *found.meta.name == *class.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Meta;

    fn served(class_name: Option<&str>, annotation: Option<&str>, change: impl FnOnce(&mut Config)) -> bool {
        let meta = |name: &str| Meta { namespace: "".into(), name: name.into(), uid: "".into(), created: None };
        let classes = [("nginx", "k8s.io/ingress-nginx"), ("penstock", "penstock.dev/ingress")];
        let classes = classes.map(|(name, controller)| IngressClass {
            meta: meta(name),
            controller: controller.into(),
            is_default: false,
        });
        let ingress = Ingress {
            meta: meta("web"),
            class_annotation: annotation.map(Into::into),
            class_name: class_name.map(Into::into),
            default_backend: None,
            rules: Box::default(),
            tls: Box::default(),
            annotations: Default::default(),
        };
        let mut config = Config { source: Source::Cluster, ..Config::default() };
        change(&mut config);
        let find = |name: &str| classes.iter().find(|class| *class.meta.name == *name);
        decide(&ingress, &config, find) == ClassDecision::Served
    }

    #[test]
    fn the_class_of_an_ingress_decides_as_in_ingress_nginx() {
        let nothing = |_: &mut Config| {};
        assert!(served(Some("penstock"), None, nothing));
        assert!(!served(Some("nginx"), None, nothing));
        assert!(served(Some("nginx"), None, |config| config.class.controller = "k8s.io/ingress-nginx".to_owned()));
        assert!(served(Some("nginx"), None, |config| config.class.by_name = true));
        assert!(!served(Some("absent"), None, nothing));
        assert!(served(None, Some("nginx"), nothing));
        assert!(!served(None, Some("traefik"), nothing));
        assert!(served(None, Some(""), nothing), "an empty annotation is any class");
        assert!(!served(Some("nginx"), Some("nginx"), nothing), "spec.ingressClassName wins over the annotation");
        assert!(!served(None, None, nothing));
        assert!(served(None, None, |config| config.class.without_class = true));
    }

    #[test]
    fn files_may_leave_out_the_class() {
        let files = |config: &mut Config| config.source = Source::Files;
        assert!(served(None, None, files));
        assert!(!served(None, Some("traefik"), files));
        assert!(!served(Some("absent"), None, files));
        let other_name = |config: &mut Config| {
            config.source = Source::Files;
            config.class.name = "absent".to_owned();
        };
        assert!(served(Some("absent"), None, other_name), "a class that only --ingress-class names");
    }
}
