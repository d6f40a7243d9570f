//! The functions that programs call.

use vdso::Clock;

use crate::arch::{count, system_call, time_page};

const GETTIMEOFDAY: u64 = 96;
const TIME: u64 = 201;
const CLOCK_GETTIME: u64 = 228;

/// `struct timespec`, and `struct timeval` with microseconds.
#[repr(C)]
pub struct Pair {
    seconds: u64,
    rest: u64,
}

/// `struct timezone`.
#[repr(C)]
pub struct Zone {
    minutes_west: i32,
    saving: i32,
}

fn now(clock: i32) -> Option<(u64, u64)> {
    time_page().read(Clock::from_number(clock)?, count())
}

/// clock_gettime(2).
///
/// # Safety
/// The pointer is one to memory of the program that can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_clock_gettime(clock: i32, at: *mut Pair) -> i32 {
    let Some((seconds, rest)) = now(clock) else {
        return system_call(CLOCK_GETTIME, clock as u64, at as u64);
    };
    // SAFETY: the caller's promise.
    unsafe { at.write(Pair { seconds, rest }) };
    0
}

/// gettimeofday(2).
///
/// # Safety
/// The pointers are null, or to memory of the program that can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_gettimeofday(at: *mut Pair, zone: *mut Zone) -> i32 {
    let Some((seconds, ns)) = now(0) else {
        return system_call(GETTIMEOFDAY, at as u64, zone as u64);
    };
    if !at.is_null() {
        // SAFETY: the caller's promise.
        unsafe { at.write(Pair { seconds, rest: ns / 1000 }) };
    }
    if !zone.is_null() {
        // SAFETY: the caller's promise.
        unsafe { zone.write(Zone { minutes_west: 0, saving: 0 }) };
    }
    0
}

/// time(2).
///
/// # Safety
/// The pointer is null, or to memory of the program that can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_time(at: *mut u64) -> i64 {
    let Some((seconds, _)) = now(0) else {
        return i64::from(system_call(TIME, at as u64, 0));
    };
    if !at.is_null() {
        // SAFETY: the caller's promise.
        unsafe { at.write(seconds) };
    }
    seconds as i64
}

/// getcpu(2): there is one processor.
///
/// # Safety
/// The pointers are null, or to memory of the program that can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_getcpu(cpu: *mut u32, node: *mut u32, _: *mut u64) -> i64 {
    for place in [cpu, node] {
        if !place.is_null() {
            // SAFETY: the caller's promise.
            unsafe { place.write(0) };
        }
    }
    0
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
