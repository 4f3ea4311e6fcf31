//! What can be pointed at and gone to.

use crate::model::identity::Subject;
use crate::model::name::{NodeName, ServiceName};
use crate::model::view::{EdgeProtocol, EdgeView};

/// Which edge: who calls whom, speaking what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EdgeId {
    /// The caller.
    pub source: Subject,
    /// The called service.
    pub destination: ServiceName,
    /// What is spoken.
    pub protocol: EdgeProtocol,
}

impl From<&EdgeView> for EdgeId {
    fn from(edge: &EdgeView) -> Self {
        Self { source: edge.source.clone(), destination: edge.destination.clone(), protocol: edge.protocol }
    }
}

/// Something on the screen that a cursor can stand on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "named for what they point at")]
pub enum Target {
    Service(ServiceName),
    /// A caller that is not a service.
    Caller(Subject),
    Edge(EdgeId),
    Route(ServiceName, String),
    Instance(ServiceName, NodeName, u16),
    Node(NodeName),
    Identity(Subject, NodeName),
    /// When, and which among those of the same moment.
    Event(u64, u32),
    /// A line of the list of what needs attention, by its key.
    Lint(String),
    /// A line of a page of text.
    Line(usize),
}

/// Where the console is: a view, by its place in the list of views, and what it is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Index of the view.
    pub view: usize,
    /// What the view shows in detail; `None` for all.
    pub focus: Option<Target>,
}
