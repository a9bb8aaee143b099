use super::*;

#[test]
fn a_length_of_time_is_a_number_and_a_unit() {
    let read = |text: &str| window(text).ok().map(|Window(ms)| ms);
    assert_eq!(read("5m"), Some(300_000));
    assert_eq!(read(" 90 s"), Some(90_000));
    assert_eq!(read("1d"), Some(86_400_000));
    for wrong in ["", "5", "m", "0s", "-5m", "5 weeks", "99999999999999999999d", "18446744073709551615h"] {
        assert_eq!(read(wrong), None, "{wrong}");
    }
}
