//! What can be wrong with a graph or with the configuration it is built from.

use thiserror::Error;

/// One fault of a logical graph. A check returns all of them.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum GraphError {
    /// Two axes of one name, or an axis without a name.
    #[error("axis {name:?} is declared {times} times; every axis needs a name of its own")]
    AxisName {
        /// The name.
        name: String,
        /// How often it is declared.
        times: usize,
    },
    /// An axis of length zero.
    #[error("axis {name} has length 0; a length is at least 1")]
    AxisLength {
        /// The name.
        name: String,
    },
    /// Axis 0 is not `rows`, or another axis is bound at every step.
    #[error("axis {name} (number {number}): the first axis, and no other, is the packed rows of a step")]
    RowsAxis {
        /// The name.
        name: String,
        /// Its place in the table.
        number: usize,
    },
    /// A weight's axes cannot be.
    #[error("weight {name} [{axes}]: {what}")]
    ParamAxes {
        /// The name in the checkpoint.
        name: String,
        /// The axes it declares.
        axes: String,
        /// What is wrong with them.
        what: &'static str,
    },
    /// One name declared with two sets of axes.
    #[error("weight {name} is declared as [{first}] and as [{second}]")]
    ParamTwice {
        /// The name in the checkpoint.
        name: String,
        /// The axes of the first declaration.
        first: String,
        /// The axes of the second.
        second: String,
    },
    /// A tensor of which no weight has some part.
    #[error("tensor {name}: its parts have {elements} elements, it has {whole}; every part belongs to a weight")]
    Parts {
        /// The name in the checkpoint.
        name: String,
        /// Elements of all its weights.
        elements: u64,
        /// Elements of the tensor.
        whole: u64,
    },
    /// A weight, axis or value that the tables do not have.
    #[error("%{node} ({op}): {what} {number} does not exist; there are {count}")]
    Unknown {
        /// The node.
        node: usize,
        /// Its op.
        op: &'static str,
        /// Which table.
        what: &'static str,
        /// The number asked for.
        number: usize,
        /// How many there are.
        count: usize,
    },
    /// An operand that is computed later, or by the node itself.
    #[error("%{node} ({op}) reads %{operand}, which is not computed before it")]
    Order {
        /// The node.
        node: usize,
        /// Its op.
        op: &'static str,
        /// The operand.
        operand: usize,
    },
    /// Operands whose axes do not fit the op.
    #[error("%{node} ({op}{param}): {what}: wants {wants}, got [{got}]")]
    Axes {
        /// The node.
        node: usize,
        /// Its op.
        op: &'static str,
        /// A blank and the weight's name, where there is one.
        param: String,
        /// Which operand.
        what: &'static str,
        /// What fits.
        wants: String,
        /// The axes found.
        got: String,
    },
    /// The axes written beside a node are not those that its op gives.
    #[error("%{node} ({op}) is declared as [{declared}], but gives [{gives}]")]
    Declared {
        /// The node.
        node: usize,
        /// Its op.
        op: &'static str,
        /// The axes declared.
        declared: String,
        /// The axes inferred.
        gives: String,
    },
    /// A constant outside its range.
    #[error("%{node} ({op}): {field} is {value}; allowed: {allowed}")]
    Constant {
        /// The node.
        node: usize,
        /// Its op.
        op: &'static str,
        /// The constant.
        field: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// All rows and sampled rows in one op, or rows sampled twice.
    #[error("%{node} ({op}) mixes values from before and behind sampled_rows")]
    RowSets {
        /// The node.
        node: usize,
        /// Its op.
        op: &'static str,
    },
    /// Sections out of order.
    #[error("%{node} ({op}) is in {found}, behind {before}; sections go embed, layer 0, layer 1, …, head")]
    Section {
        /// The node.
        node: usize,
        /// Its op.
        op: &'static str,
        /// The section it is in.
        found: String,
        /// The section of the node before it.
        before: String,
    },
    /// A weight or value that nothing reads.
    #[error("{what} is never read")]
    Unused {
        /// The weight's name or the value.
        what: String,
    },
    /// The result is not one row of logits a sampled row.
    #[error("output %{node} has axes [{axes}]; the output is [rows, vocabulary] behind sampled_rows")]
    Output {
        /// The node.
        node: usize,
        /// Its axes.
        axes: String,
    },
    /// A line of the text form that cannot be read.
    #[error("line {line}: {what}: {text:?}")]
    Text {
        /// Line, counted from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
        /// The text found, cut at 80 characters.
        text: String,
    },
}

/// One fault of a `config.json`. All of them are reported at once.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ConfigFault {
    /// A field that the architecture needs is not there.
    #[error("config.json: {field} is missing; {family} needs it")]
    Missing {
        /// Path of the field.
        field: String,
        /// The family.
        family: &'static str,
    },
    /// A field outside its type or range.
    #[error("config.json: {field} is {value}; allowed: {allowed}")]
    Value {
        /// Path of the field.
        field: String,
        /// The value, cut at 80 characters.
        value: String,
        /// What it may be.
        allowed: String,
    },
    /// Two fields that do not fit together.
    #[error("config.json: {left} is {left_value} and {right} is {right_value}; {rule}")]
    Relation {
        /// First field.
        left: &'static str,
        /// Its value.
        left_value: u64,
        /// Second field.
        right: &'static str,
        /// Its value.
        right_value: u64,
        /// What must hold.
        rule: &'static str,
    },
    /// The fields read give a graph that breaks a law.
    #[error("config.json describes a graph that cannot be: {0}")]
    Graph(GraphError),
    /// An architecture that no family describes.
    #[error("config.json: model_type is {found}; known: {known}{nearest}")]
    Architecture {
        /// What it says, or "missing".
        found: String,
        /// The known ones.
        known: String,
        /// A hint, or nothing.
        nearest: String,
    },
}
