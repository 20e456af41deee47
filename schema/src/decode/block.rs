//! A struct and the options that fill it, stated together.

/// Declares a block of the language: a struct whose fields say how they are written.
///
/// Each field is `name: Type = question,` where the question is a method of
/// [`Fields`](super::Fields); its doc comment is the option's text in the reference. The struct's
/// own doc comment opens its section there. Later questions may use earlier fields.
macro_rules! block {
    (
        $(#[doc = $about:literal])+
        #[derive($($derived:ident),+)]
        pub struct $block:ident {
            $(
                $(#[doc = $doc:literal])+
                pub $field:ident: $type:ty = $how:ident($($argument:expr),* $(,)?)
                    $(.$then:ident($($further:expr),* $(,)?))*
            ),* $(,)?
        }
    ) => {
        $(#[doc = $about])+
        #[derive($($derived),+)]
        pub struct $block {
            $($(#[doc = $doc])+ pub $field: $type,)*
        }

        impl $block {
            /// Asks for the block's options.
            pub(crate) fn fields(f: &mut $crate::decode::Fields) -> Self {
                f.about(concat!($($about, "\n"),+));
                $(
                    let $field: $type = f
                        .doc(concat!($($doc, "\n"),+))
                        .$how($($argument),*)
                        $(.$then($($further),*))*;
                )*
                Self { $($field),* }
            }
        }
    };
}

pub(crate) use block;
