//! The macros behind the message tables.
//!
//! A table is written like this, versions as Kafka writes them:
//!
//! ```text
//! message! {
//!     /// What the message is for.
//!     FetchRequest [4-18, flexible 12+] {                    versions; where KIP-482 begins
//!         replica_id: i32 [0-14] = -1,                       versions that have it; its default
//!         max_bytes: i32 [3+, ignorable] = i32::MAX,         dropped where there is no place for it
//!         topics: Option<Vec<FetchTopic>> [0+, nullable 1+], may be null in some versions only
//!     } tagged {
//!         0 cluster_id: Option<Text> [12+, ignorable],       a tagged field and its tag
//!     }
//! }
//! ```
//!
//! From it come the structure with its `Default`, its decoder and encoder for every version, and the
//! table as data ([`crate::schema::Table`]). `structure!` does the same for what messages contain.
//! A field without a default is zero, empty, or null if its type is an `Option`. An `Option` may be
//! null in every version unless the table says otherwise. The expansion of a field is one call of a
//! function in `value.rs`.

/// A message of its own: a structure with versions.
macro_rules! message {
    (
        $(#[$meta:meta])*
        $name:ident [$first:literal - $last:literal $(, flexible $flexible:literal +)?]
        $($fields:tt)+
    ) => {
        $crate::table::structure! { $(#[$meta])* $name $($fields)+ }

        impl $crate::message::Message for $name {
            const NAME: &'static str = stringify!($name);
            const TABLE: &'static $crate::schema::Table = &Self::TABLE;
            const VERSIONS: $crate::schema::Versions =
                $crate::schema::Versions::between($first, $last);
            const FLEXIBLE_FROM: i16 = $crate::table::or_else!([$($flexible)?] i16::MAX);
        }
    };
}

/// A structure without versions of its own: those of the message that it is part of hold.
macro_rules! structure {
    (
        $(#[$meta:meta])*
        $name:ident {
            $(
                $(#[$field_meta:meta])*
                $field:ident: $type:ty [$($flags:tt)+] $(= $default:expr)?,
            )*
        }
        $(tagged {
            $(
                $(#[$tagged_meta:meta])*
                $tag:literal $tagged:ident: $tagged_type:ty [$($tagged_flags:tt)+]
                $(= $tagged_default:expr)?,
            )*
        })?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[doc = concat!("`", stringify!($($flags)+), "`")]
                pub $field: $type,
            )*
            $($(
                $(#[$tagged_meta])*
                #[doc = concat!("`", stringify!($($tagged_flags)+, tag $tag), "`")]
                pub $tagged: $tagged_type,
            )*)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($field: $crate::table::or_else!([$($default)?] Default::default()),)*
                    $($(
                        $tagged: $crate::table::or_else!([$($tagged_default)?] Default::default()),
                    )*)?
                }
            }
        }

        #[allow(non_upper_case_globals, reason = "one constant a field, by its name")]
        impl $name {
            $(
                const $field: $crate::schema::Field =
                    $crate::table::field!($name $field $type [$($flags)+]);
            )*
            $($(
                const $tagged: $crate::schema::Field =
                    $crate::table::field!($name $tagged $tagged_type [$($tagged_flags)+])
                        .tagged($tag);
            )*)?

            /// The structure's fields, as data.
            pub const TABLE: $crate::schema::Table = $crate::schema::Table {
                name: stringify!($name),
                fields: &[$(&Self::$field,)* $($(&Self::$tagged,)*)?],
            };
        }

        impl $crate::value::Value for $name {
            const KIND: $crate::schema::Kind = $crate::schema::Kind::Struct(&Self::TABLE);

            fn read(
                input: &mut $crate::input::Input,
                layout: $crate::schema::Layout,
                _field: &'static $crate::schema::Field,
            ) -> Result<Self, $crate::error::DecodeError> {
                #[allow(unused_mut, reason = "a structure may have no fields")]
                let mut value = Self::default();
                $(
                    $crate::value::read_field(input, layout, &Self::$field, &mut value.$field)?;
                )*
                if layout.flexible {
                    input.tagged_fields(&mut |tag, _input| match tag {
                        $($(
                            $tag => $crate::value::read_tagged_field(
                                _input, layout, &Self::$tagged, &mut value.$tagged,
                            ),
                        )*)?
                        _ => Ok(false),
                    })?;
                }
                Ok(value)
            }

            fn write(
                &self,
                out: &mut $crate::gather::Gather,
                layout: $crate::schema::Layout,
                _field: &'static $crate::schema::Field,
            ) -> Result<(), $crate::error::EncodeError> {
                $(
                    $crate::value::write_field(
                        &self.$field,
                        || $crate::table::or_else!([$($default)?] Default::default()),
                        out, layout, &Self::$field,
                    )?;
                )*
                #[allow(unused_mut, reason = "a structure may have no tagged fields")]
                let mut tagged = $crate::value::TaggedFields::default();
                $($(
                    tagged.write_field(
                        $tag,
                        &self.$tagged,
                        || $crate::table::or_else!([$($tagged_default)?] Default::default()),
                        layout, &Self::$tagged,
                    )?;
                )*)?
                tagged.finish(out, layout);
                Ok(())
            }
        }

        impl $crate::value::Nullable for $name {
            fn read_nullable(
                input: &mut $crate::input::Input,
                layout: $crate::schema::Layout,
                field: &'static $crate::schema::Field,
            ) -> Result<Option<Self>, $crate::error::DecodeError> {
                match $crate::value::read_present(input, field)? {
                    true => $crate::value::Value::read(input, layout, field).map(Some),
                    false => Ok(None),
                }
            }

            fn write_nullable(
                value: Option<&Self>,
                out: &mut $crate::gather::Gather,
                layout: $crate::schema::Layout,
                field: &'static $crate::schema::Field,
            ) -> Result<(), $crate::error::EncodeError> {
                $crate::value::write_present(value.is_some(), out);
                value.map_or(Ok(()), |value| {
                    $crate::value::Value::write(value, out, layout, field)
                })
            }
        }
    };
}

/// A field as data.
macro_rules! field {
    ($table:ident $name:ident $type:ty [$first:literal + $(, $($flags:tt)+)?]) => {
        $crate::table::field!(@ $table $name $type
            { $crate::schema::Versions::since($first) } $($($flags)+)?)
    };
    ($table:ident $name:ident $type:ty [$first:literal - $last:literal $(, $($flags:tt)+)?]) => {
        $crate::table::field!(@ $table $name $type
            { $crate::schema::Versions::between($first, $last) } $($($flags)+)?)
    };
    (@ $table:ident $name:ident $type:ty $versions:block) => {
        $crate::schema::Field::new(
            stringify!($table),
            stringify!($name),
            <$type as $crate::value::Value>::KIND,
            $versions,
        )
    };
    (@ $table:ident $name:ident $type:ty $versions:block ignorable) => {
        $crate::table::field!(@ $table $name $type $versions).ignorable()
    };
    (
        @ $table:ident $name:ident $type:ty $versions:block
        nullable $first:literal + $(, $ignorable:ident)?
    ) => {
        $crate::table::field!(@ $table $name $type $versions $($ignorable)?)
            .nullable($crate::schema::Versions::since($first))
    };
    (
        @ $table:ident $name:ident $type:ty $versions:block
        nullable $first:literal - $last:literal $(, $ignorable:ident)?
    ) => {
        $crate::table::field!(@ $table $name $type $versions $($ignorable)?)
            .nullable($crate::schema::Versions::between($first, $last))
    };
}

/// The expression in brackets if there is one, else the other.
macro_rules! or_else {
    ([] $otherwise:expr) => {
        $otherwise
    };
    ([$given:expr] $otherwise:expr) => {
        $given
    };
}

pub(crate) use {field, message, or_else, structure};
