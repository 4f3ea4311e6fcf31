//! What the schemas of routes leave out: kinds of routes share types, and not all can have all that is in these.

use schemars::Schema;

use crate::model::route_filter::FilterKind;

/// Leaves out the filters that are not of these kinds, with what belongs to them.
pub(crate) fn keep_filters(schema: &mut Schema, kept: &[FilterKind]) {
    let left_out: Vec<_> = FilterKind::ALL.into_iter().filter(|kind| !kept.contains(kind)).collect();
    let fields = schema.pointer_mut("/$defs/HttpRouteFilter/properties").and_then(|all| all.as_object_mut());
    if let Some(fields) = fields {
        for kind in &left_out {
            fields.remove(kind.field());
        }
    }
    let choices = schema.pointer_mut("/$defs/FilterKind/oneOf").and_then(|all| all.as_array_mut());
    if let Some(choices) = choices {
        let name_of = |kind: &FilterKind| kind.name();
        choices.retain(|choice| {
            let name = choice.get("const").and_then(|name| name.as_str()).unwrap_or_default();
            !left_out.iter().map(name_of).any(|out| out == name)
        });
    }
    prune(schema);
}

/// Leaves out the filters of backends.
pub(crate) fn drop_filters(schema: &mut Schema) {
    let fields = schema.pointer_mut("/$defs/HttpBackendRef/properties").and_then(|all| all.as_object_mut());
    if let Some(fields) = fields {
        fields.remove("filters");
    }
    prune(schema);
}

/// Removes the definitions that nothing refers to any more.
fn prune(schema: &mut Schema) {
    loop {
        let text = schema.as_value().to_string();
        let Some(all) = schema.get_mut("$defs").and_then(|all| all.as_object_mut()) else { return };
        let before = all.len();
        all.retain(|name, _| text.contains(&format!("\"#/$defs/{name}\"")));
        if all.len() == before {
            return;
        }
    }
}
