//! The accessors that generated code would have, by kind of field.

/// Writes getters and setters for fields of a message: `copy` for numbers, flags and enums, `bytes`
/// for byte strings, `list` for repeated fields, `message` for messages within.
macro_rules! accessors {
    ($message:ident { $($kind:ident $field:ident: $type:ty, $get:ident $set:ident $change:ident $take:ident;)* }) => {
        impl $message {
            $(accessors!(@$kind $field: $type, $get $set $change $take);)*
        }
    };
    (@copy $field:ident: $type:ty, $get:ident $set:ident $change:ident $take:ident) => {
        /// The field of this name.
        pub fn $get(&self) -> $type {
            self.$field
        }
        /// Sets the field of this name.
        pub fn $set(&mut self, value: $type) {
            self.$field = value;
        }
    };
    (@bytes $field:ident: $type:ty, $get:ident $set:ident $change:ident $take:ident) => {
        accessors!(@within $field: $type, [u8], $get $set $change $take);
    };
    (@list $field:ident: $type:ty, $get:ident $set:ident $change:ident $take:ident) => {
        accessors!(@within $field: $type, $type, $get $set $change $take);
    };
    (@message $field:ident: $type:ty, $get:ident $set:ident $change:ident $take:ident) => {
        accessors!(@within $field: $type, $type, $get $set $change $take);
    };
    (@within $field:ident: $type:ty, $seen:ty, $get:ident $set:ident $change:ident $take:ident) => {
        /// The field of this name.
        pub fn $get(&self) -> &$seen {
            &self.$field
        }
        /// Sets the field of this name.
        pub fn $set(&mut self, value: $type) {
            self.$field = value;
        }
        /// The field of this name, to be changed in place.
        pub fn $change(&mut self) -> &mut $type {
            &mut self.$field
        }
        /// Takes the field of this name and leaves its default.
        pub fn $take(&mut self) -> $type {
            ::std::mem::take(&mut self.$field)
        }
    };
}

pub(crate) use accessors;
