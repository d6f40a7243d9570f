# The frame of `cargo xtask chaos --qemu`: the work of work.sh again and again while `strike` makes servers fail, and
# before and after it what there is in the kernel. Each part of the output begins with a line `=== WHAT`.
round() {
  echo "=== round"
  sh /chaos/work.sh
  echo "=== status $?"
}
# Who counts is counted, too, and now and then its stack lies across the border between two page tables.
count() {
  sleep 1
  for sample in 1 2 3 4 5 6 7 8; do
    echo "=== $1"
    cat /proc/naiad/counters
    grep Mem /proc/meminfo
  done
}
storm() {
  /usr/lib/naiad/tests/strike "$@" &
  killer=$!
  while kill -0 $killer 2>/dev/null; do
    round
  done
  wait $killer
  echo "=== killer $?"
}
# One in which nobody fails: what it takes is there from then on.
storm $1 0 $3 $4
round
count before
storm "$@"
round
count after
echo "=== crashes"
cat /proc/naiad/crashes
