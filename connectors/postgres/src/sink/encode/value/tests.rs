use super::*;

#[test]
fn a_uuid_is_read_with_its_hyphens_or_without() {
    let number = Some(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
    assert_eq!(uuid("01234567-89ab-cdef-0123-456789ABCDEF"), number);
    assert_eq!(uuid("0123456789abcdef0123456789abcdef"), number);
    for wrong in ["", "0123456789abcdef-0123-456789abcdef--", "+123456789abcdef0123456789abcdef", "é"] {
        assert_eq!(uuid(wrong), None, "{wrong}");
    }
}

#[test]
fn an_integer_is_a_float_only_if_it_is_that_very_number() {
    for value in [0, 1, -1, 1 << 53, -(1 << 53), 4_294_967_297] {
        let mut out = BytesMut::new();
        exact(&mut out, value).unwrap();
        let float = f64::from_be_bytes(out[4..].try_into().unwrap());
        assert_eq!(format!("{float}"), value.to_string());
    }
    assert_eq!(exact(&mut BytesMut::new(), (1 << 53) + 1), Err(Misfit::Float));
}

#[test]
fn ticks_are_microseconds_exactly_or_refused() {
    assert_eq!(Ticks::of(TimeUnit::Second).micros(-2), Ok(-2_000_000));
    assert_eq!(Ticks::of(TimeUnit::Second).micros(i64::MAX), Err(Misfit::Far));
    assert_eq!(Ticks::of(TimeUnit::Nanosecond).micros(-3_000), Ok(-3));
    assert_eq!(Ticks::of(TimeUnit::Nanosecond).micros(1), Err(Misfit::Fine));
}
