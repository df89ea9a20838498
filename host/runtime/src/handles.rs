//! The types behind the handles of event guests.

/// The WIT resource `file`.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings name it")]
pub struct FileHandle;

/// The WIT resource `request`.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings name it")]
pub struct RequestHandle;
