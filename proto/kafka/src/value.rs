//! How each kind of value is read and written. The tables are built of these.

use bytes::Bytes;
use uuid::Uuid;

use crate::error::{DecodeError, EncodeError, Fault};
use crate::gather::Gather;
use crate::input::Input;
use crate::schema::{Field, Kind, Layout};
use crate::text::Text;

/// A value of a field, or an element of one.
pub trait Value: Sized {
    /// What the tables call it.
    const KIND: Kind;

    /// Reads one; `field` is for errors, and says where null is allowed.
    fn read(input: &mut Input, layout: Layout, field: &'static Field) -> Result<Self, DecodeError>;

    /// Writes it.
    fn write(
        &self,
        out: &mut Gather,
        layout: Layout,
        field: &'static Field,
    ) -> Result<(), EncodeError>;
}

/// A value that has a form for null.
pub trait Nullable: Value {
    /// Reads one; `None` is null.
    fn read_nullable(
        input: &mut Input,
        layout: Layout,
        field: &'static Field,
    ) -> Result<Option<Self>, DecodeError>;

    /// Writes one that may be null.
    fn write_nullable(
        value: Option<&Self>,
        out: &mut Gather,
        layout: Layout,
        field: &'static Field,
    ) -> Result<(), EncodeError>;
}

macro_rules! numbers {
    ($($number:ty => $kind:ident),*) => {$(
        impl Value for $number {
            const KIND: Kind = Kind::$kind;

            fn read(
                input: &mut Input,
                _layout: Layout,
                field: &'static Field,
            ) -> Result<Self, DecodeError> {
                Ok(Self::from_be_bytes(input.array(field)?))
            }

            fn write(
                &self,
                out: &mut Gather,
                _layout: Layout,
                _field: &'static Field,
            ) -> Result<(), EncodeError> {
                out.put(&self.to_be_bytes());
                Ok(())
            }
        }
    )*};
}

numbers! {
    i8 => Int8, i16 => Int16, u16 => Uint16, i32 => Int32, u32 => Uint32, i64 => Int64,
    f64 => Float64
}

impl Value for bool {
    const KIND: Kind = Kind::Bool;

    fn read(
        input: &mut Input,
        _layout: Layout,
        field: &'static Field,
    ) -> Result<Self, DecodeError> {
        let [byte] = input.array(field)?;
        Ok(byte != 0)
    }

    fn write(
        &self,
        out: &mut Gather,
        _layout: Layout,
        _field: &'static Field,
    ) -> Result<(), EncodeError> {
        out.put(&[u8::from(*self)]);
        Ok(())
    }
}

impl Value for Uuid {
    const KIND: Kind = Kind::Uuid;

    fn read(
        input: &mut Input,
        _layout: Layout,
        field: &'static Field,
    ) -> Result<Self, DecodeError> {
        Ok(Self::from_bytes(input.array(field)?))
    }

    fn write(
        &self,
        out: &mut Gather,
        _layout: Layout,
        _field: &'static Field,
    ) -> Result<(), EncodeError> {
        out.put(self.as_bytes());
        Ok(())
    }
}

/// `Value` for what is a length, or null, and that many bytes or elements.
macro_rules! not_null {
    ($kind:expr) => {
        const KIND: Kind = $kind;

        fn read(
            input: &mut Input,
            layout: Layout,
            field: &'static Field,
        ) -> Result<Self, DecodeError> {
            match Self::read_nullable(input, layout, field)? {
                Some(value) => Ok(value),
                None => Err(input.error(Fault::Null(layout.version), field)),
            }
        }

        fn write(
            &self,
            out: &mut Gather,
            layout: Layout,
            field: &'static Field,
        ) -> Result<(), EncodeError> {
            Self::write_nullable(Some(self), out, layout, field)
        }
    };
}

impl Value for Text {
    not_null!(Kind::String);
}

impl Nullable for Text {
    fn read_nullable(
        input: &mut Input,
        layout: Layout,
        field: &'static Field,
    ) -> Result<Option<Self>, DecodeError> {
        let Some(length) = input.text_length(layout, field)? else {
            return Ok(None);
        };
        let bytes = input.slice(length, field)?;
        match Self::from_utf8(bytes) {
            Some(text) => Ok(Some(text)),
            None => Err(input.error(Fault::NotUtf8, field)),
        }
    }

    fn write_nullable(
        value: Option<&Self>,
        out: &mut Gather,
        layout: Layout,
        field: &'static Field,
    ) -> Result<(), EncodeError> {
        let length = value.map(|text| text.len());
        if layout.flexible {
            write_compact_length(length, out, field)?;
        } else {
            let short = length.map_or(Ok(-1), |length| {
                i16::try_from(length).map_err(|_| EncodeError::too_long(field, length))
            });
            out.put(&short?.to_be_bytes());
        }
        if let Some(text) = value {
            out.put_shared(text.as_bytes());
        }
        Ok(())
    }
}

impl Value for Bytes {
    not_null!(Kind::Bytes);
}

impl Nullable for Bytes {
    fn read_nullable(
        input: &mut Input,
        layout: Layout,
        field: &'static Field,
    ) -> Result<Option<Self>, DecodeError> {
        let length = input.length(layout, field)?;
        length.map(|length| input.slice(length, field)).transpose()
    }

    fn write_nullable(
        value: Option<&Self>,
        out: &mut Gather,
        layout: Layout,
        field: &'static Field,
    ) -> Result<(), EncodeError> {
        write_length(value.map(Self::len), out, layout, field)?;
        if let Some(bytes) = value {
            out.put_shared(bytes);
        }
        Ok(())
    }
}

impl<T: Value> Value for Vec<T> {
    not_null!(Kind::Array(&T::KIND));
}

impl<T: Value> Nullable for Vec<T> {
    fn read_nullable(
        input: &mut Input,
        layout: Layout,
        field: &'static Field,
    ) -> Result<Option<Self>, DecodeError> {
        let Some(count) = input.count(size_of::<T>(), layout, field)? else {
            return Ok(None);
        };
        let mut elements = Self::with_capacity(count);
        for _ in 0..count {
            elements.push(T::read(input, layout, field)?);
        }
        Ok(Some(elements))
    }

    fn write_nullable(
        value: Option<&Self>,
        out: &mut Gather,
        layout: Layout,
        field: &'static Field,
    ) -> Result<(), EncodeError> {
        write_length(value.map(Self::len), out, layout, field)?;
        let elements = value.into_iter().flatten();
        elements
            .into_iter()
            .try_for_each(|element| element.write(out, layout, field))
    }
}

impl<T: Nullable> Value for Option<T> {
    const KIND: Kind = Kind::Nullable(&T::KIND);

    fn read(input: &mut Input, layout: Layout, field: &'static Field) -> Result<Self, DecodeError> {
        if field.nullable.contains(layout.version) {
            T::read_nullable(input, layout, field)
        } else {
            T::read(input, layout, field).map(Some)
        }
    }

    fn write(
        &self,
        out: &mut Gather,
        layout: Layout,
        field: &'static Field,
    ) -> Result<(), EncodeError> {
        match self {
            value if field.nullable.contains(layout.version) => {
                T::write_nullable(value.as_ref(), out, layout, field)
            }
            Some(value) => value.write(out, layout, field),
            None => Err(EncodeError::null(field, layout.version)),
        }
    }
}

/// A structure that may be null has a byte before it: -1 for null, 1 otherwise.
pub(crate) fn read_present(input: &mut Input, field: &'static Field) -> Result<bool, DecodeError> {
    let [mark] = input.array(field)?;
    Ok((mark as i8) >= 0)
}

/// The counterpart of [`read_present`].
pub(crate) fn write_present(present: bool, out: &mut Gather) {
    out.put(&[if present { 1 } else { u8::MAX }]);
}

fn write_length(
    length: Option<usize>,
    out: &mut Gather,
    layout: Layout,
    field: &'static Field,
) -> Result<(), EncodeError> {
    if layout.flexible {
        return write_compact_length(length, out, field);
    }
    let length = length.map_or(Ok(-1), |length| {
        i32::try_from(length).map_err(|_| EncodeError::too_long(field, length))
    });
    out.put(&length?.to_be_bytes());
    Ok(())
}

fn write_compact_length(
    length: Option<usize>,
    out: &mut Gather,
    field: &'static Field,
) -> Result<(), EncodeError> {
    let length_plus_one = length.map_or(Ok(0), |length| {
        let length_plus_one = u32::try_from(length)
            .ok()
            .and_then(|length| length.checked_add(1));
        length_plus_one.ok_or_else(|| EncodeError::too_long(field, length))
    });
    out.put_varint(length_plus_one?);
    Ok(())
}

/// Reads a field where the version has it; elsewhere `into` keeps its default.
pub(crate) fn read_field<T: Value>(
    input: &mut Input,
    layout: Layout,
    field: &'static Field,
    into: &mut T,
) -> Result<(), DecodeError> {
    if layout.has(field) {
        *into = T::read(input, layout, field)?;
    }
    Ok(())
}

/// Reads a tagged field; `false` if the version does not have it, whose bytes are then skipped.
pub(crate) fn read_tagged_field<T: Value>(
    input: &mut Input,
    layout: Layout,
    field: &'static Field,
    into: &mut T,
) -> Result<bool, DecodeError> {
    read_field(input, layout, field, into).map(|()| layout.has(field))
}

/// Writes a field where the version has it; elsewhere it has to be its default or ignorable.
pub(crate) fn write_field<T: Value + PartialEq>(
    value: &T,
    default: fn() -> T,
    out: &mut Gather,
    layout: Layout,
    field: &'static Field,
) -> Result<(), EncodeError> {
    if layout.has(field) {
        value.write(out, layout, field)
    } else if field.ignorable || *value == default() {
        Ok(())
    } else {
        Err(EncodeError::no_place(field, layout.version))
    }
}

/// The section of tagged fields of a structure under construction. Defaults are left out.
#[derive(Debug, Default)]
pub(crate) struct TaggedFields {
    count: u32,
    section: Gather,
}

impl TaggedFields {
    /// Adds a field if it is not its default. Fields come in the order of their tags.
    pub(crate) fn write_field<T: Value + PartialEq>(
        &mut self,
        tag: u32,
        value: &T,
        default: fn() -> T,
        layout: Layout,
        field: &'static Field,
    ) -> Result<(), EncodeError> {
        if *value == default() {
            return Ok(());
        }
        if !layout.has(field) {
            return if field.ignorable {
                Ok(())
            } else {
                Err(EncodeError::no_place(field, layout.version))
            };
        }
        let mut bytes = Gather::new();
        value.write(&mut bytes, layout, field)?;
        let size = bytes.len();
        self.count += 1;
        self.section.put_varint(tag);
        let size = u32::try_from(size).map_err(|_| EncodeError::too_long(field, size))?;
        self.section.put_varint(size);
        self.section.append(bytes);
        Ok(())
    }

    /// Ends the structure, if its layout has such a section.
    pub(crate) fn finish(self, out: &mut Gather, layout: Layout) {
        if layout.flexible {
            out.put_varint(self.count);
            out.append(self.section);
        }
    }
}
