//! The graph of calls that the topology draws, and how its nodes are.

use crate::model::identity::Subject;
use crate::model::view::EdgeView;
use crate::top::canvas::Scene;
use crate::top::health::Status;
use crate::top::target::Target;
use crate::top::view::services;

/// The services, and callers that are none, with the calls between them.
#[derive(Debug)]
pub struct Graph<'m> {
    /// Sorted by name; the order of the layout's numbers.
    pub nodes: Vec<Subject>,
    /// The calls, by node number.
    pub links: Vec<(usize, usize)>,
    /// What the links are.
    pub edges: Vec<&'m EdgeView>,
}

impl<'m> Graph<'m> {
    /// Returns the graph of what is shown: all, or what passes the filter with its neighbours.
    pub fn of(scene: &Scene<'m>) -> Self {
        let rows = services::LISTING.rows(scene, &scene.mesh.services);
        let narrowed = scene.state.chip().is_some() || scene.state.faults_only;
        let wanted = |subject: &Subject| {
            !narrowed || rows.iter().any(|service| Some(&service.name) == subject.service())
        };
        let edges: Vec<&EdgeView> = scene
            .mesh
            .edges
            .iter()
            .filter(|edge| wanted(&edge.source) || wanted(&Subject::Service(edge.destination.clone())))
            .collect();
        let mut nodes: Vec<Subject> =
            rows.iter().map(|service| Subject::Service(service.name.clone())).collect();
        for edge in &edges {
            nodes.push(edge.source.clone());
            nodes.push(Subject::Service(edge.destination.clone()));
        }
        nodes.sort();
        nodes.dedup();
        let number = |subject: &Subject| nodes.binary_search(subject).unwrap_or(0);
        let links = edges
            .iter()
            .map(|edge| (number(&edge.source), number(&Subject::Service(edge.destination.clone()))))
            .collect();
        Self { nodes, links, edges }
    }
}

/// Returns what a subject of the graph is as a target.
pub fn target(subject: &Subject) -> Target {
    match subject {
        Subject::Service(name) => Target::Service(name.clone()),
        Subject::Node(_) | Subject::Control(_) | Subject::Operator(_) => Target::Caller(subject.clone()),
    }
}

/// Returns how a subject of the graph is.
pub fn status(scene: &Scene<'_>, subject: &Subject) -> Status {
    if let Some(service) = subject.service().and_then(|name| scene.service(name)) {
        return scene.service_status(service);
    }
    let out = scene.mesh.edges.iter().filter(|edge| edge.source == *subject);
    out.map(|edge| scene.edge_status(edge)).max().unwrap_or(Status::Idle)
}
