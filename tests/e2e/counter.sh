#!/bin/sh
# User data for `tiny`: writes to its own disk, twice a second, who it is. counter.py says what is written where, and reads it.
disk=/dev/vda
boot=$(head -c 8 /proc/sys/kernel/random/boot_id)
set -- $(strings /sys/firmware/dmi/entries/11-*/raw | sed -n 's/^ucloud-[a-z]*=//p')
epoch=$1 boots=$2

# At its very first boot, and flushed: no later write needs room, of which its qemu alone would know until it is told to flush.
if ! dd if=$disk bs=64k skip=800 count=1 iflag=direct 2>/dev/null | grep -q prepared; then
    dd if=/dev/zero of=$disk bs=64k seek=800 count=129 oflag=direct conv=notrunc,fsync 2>/dev/null
    printf '%-511s\n' prepared | dd of=$disk bs=512 seek=102400 oflag=direct conv=notrunc,fsync 2>/dev/null
fi

# Its own lane, which it goes on with if it crashed, and the last one before that: what was in them when it began.
lane=$((epoch + boots - 2))
set -- $(dd if=$disk bs=64k skip=801 count=128 iflag=direct 2>/dev/null | tr -d '\0' | awk -v own=$lane '
    { lane = $1 + $2 - 2; if ($3 > last[lane]) last[lane] = $3 + 0; if (lane < own && lane > before) before = lane }
    BEGIN { before = -1 }
    END { print last[own] + 0, before, last[before] + 0 }')
number=$1 before=$2 before_number=$3
echo "ucloud counter: epoch $epoch boots $boots goes on after $number, and after $before_number in lane $before"

while number=$((number + 1)); do
    printf '%-511s\n' "$epoch $boots $number $boot $before $before_number" |
        dd of=$disk bs=512 seek=$((102528 + lane * 128 + number % 128)) oflag=direct conv=notrunc 2>/dev/null ||
        echo "ucloud counter: $number could not be written"
    sleep 0.5
done
