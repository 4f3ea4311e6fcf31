//! Is one `TCPRoute` what the Gateway API's schema allows, and can all of it be obeyed.

use crate::logic::validate::problem::Problems;
use crate::logic::validate::reference::parents;
use crate::logic::validate::route::{backends, bounds, rule_names};
use crate::logic::validate::route_filter::Scope;
use crate::model::resource::Object;
use crate::model::tcp_route::TcpRouteSpec;

/// Adds what is wrong or doubtful in a route.
pub fn check(route: &Object<TcpRouteSpec>, problems: &mut Problems) {
    let spec = &route.spec;
    parents(&spec.parent_refs, &route.metadata.namespace, problems);
    bounds(spec.rules.iter().map(|_| 0), problems);
    rule_names(spec.rules.iter().map(|rule| rule.name.as_ref()), problems);
    if spec.rules.is_empty() {
        problems.error("spec.rules", "a TCPRoute needs a rule");
    }
    for (index, rule) in spec.rules.iter().enumerate() {
        let at = format!("spec.rules[{index}]");
        backends(&rule.backend_refs, &at, Scope { kinds: &[], prefix: false, backends: false }, problems);
        if rule.backend_refs.is_empty() {
            problems.error(format!("{at}.backendRefs"), "a rule of a TCPRoute needs at least one backend");
        } else if rule.backend_refs.iter().all(|backend| backend.weight == 0) {
            problems.warning(
                format!("{at}.backendRefs"),
                "no backend has weight: the rule refuses every connection",
            );
        }
    }
}
