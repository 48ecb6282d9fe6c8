//! What would become of an Ingress: applied, looked at, and undone. Every step gives what a translation from scratch
//! would give, which is why undoing one leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::affected::Affected;
use super::{Change, Translator};
use crate::ingress::Ingress;
use crate::problem::Problem;
use crate::resources::{Kind, NamespacedName, ObjectKey, Resource};

/// What would become of an Ingress.
#[derive(Debug, Default, PartialEq)]
pub struct Preview {
    /// What its author would be told, sorted. What it refers to may come after it, so that nothing is said of that.
    pub own: Vec<Problem>,
    /// What authors of other Ingresses would be told, and are not told now.
    pub of_others: BTreeMap<NamespacedName, Vec<Problem>>,
}

impl Translator {
    /// What would become of an Ingress that is read with these warnings; `None` when it is not served. The resources and
    /// the model stay what they are.
    pub fn preview(&mut self, ingress: Ingress, warnings: Vec<Problem>) -> Option<Preview> {
        if !self.is_served(&ingress) {
            return None;
        }
        let name = ingress.meta.key();
        let key = name.of_kind(Kind::Ingress);
        let old = self.store.ingresses.get(&name).map(Arc::clone);
        let old_report = self.conditions.reports.remove(&key);
        let update = self.apply([Change::Apply(Box::new(Resource::Ingress(ingress)), warnings)]);
        let others: BTreeSet<ObjectKey> =
            update.touched.into_iter().filter(|other| other.kind == Kind::Ingress && *other != key).collect();
        let own = self.route_problems(&key);
        let after: Vec<Vec<Problem>> = others.iter().map(|other| self.route_problems(other)).collect();

        let mut affected = Affected::default();
        match old {
            Some(old) => self.put(Resource::Ingress(Arc::unwrap_or_clone(old)), &mut affected),
            None => self.remove(&key, &mut affected),
        }
        self.conditions.reports.remove(&key);
        self.conditions.reports.extend(old_report.map(|report| (key, report)));
        self.emit(affected);

        let of_others = others.iter().zip(after).filter_map(|(other, after)| {
            let before = self.route_problems(other);
            let new: Vec<Problem> = after.into_iter().filter(|problem| !before.contains(problem)).collect();
            (!new.is_empty()).then(|| (other.namespaced_name(), new))
        });
        let of_others = of_others.collect();
        Some(Preview { own, of_others })
    }
}
