# What `cargo xtask chaos --qemu` lets programs do while servers die: every kind of work there is, and not a word in the
# output that a second run would not say again.
cd /tmp && mkdir work && cd work || exit 1
tests=/usr/lib/naiad/tests

echo pipes and forks
seq 1 2000 | sort -r | tee numbers | md5sum
seq 1 40 | while read n; do echo $n | cat; done | sort -n | tail -1
awk 'BEGIN { for (i = 0; i < 3000; i++) s += i * i; print s }'
(for i in 1 2 3; do (exit $i); echo $?; done) | tr '\n' ' '; echo

echo here-documents
cat <<END | tr a-z A-Z | sed 's/^/> /'
home $HOME, six times seven $((6 * 7))
$(echo nested | rev)
END

echo files
mkdir -p a/b/c && cp numbers a/b/c/n && mv a z && find z -type f && md5sum < z/b/c/n
tar cf t.tar z && rm -r z && tar xf t.tar && cmp numbers z/b/c/n && tar tf t.tar
dd if=/dev/zero of=big bs=64k count=8 2>/dev/null && wc -c < big && truncate -s 100 big && md5sum < big
ln z/b/c/n hard && ln -s z/b soft && ls -l hard | awk '{ print $2 }' && cat soft/c/n | wc -l
for i in 1 2 3 4 5; do echo line $i >> log; done; grep -c line log; sed -n '2,3p' log
rm -r z t.tar big hard soft log numbers; ls | wc -l

echo the disk
cat $tests/wait_core $tests/seed | md5sum
find / -xdev | wc -l
md5sum < /bin/busybox

echo signals and waits
sh -c 'trap "echo caught; exit 7" TERM; kill -TERM $$; sleep 5'; echo $?
sleep 60 & kill -KILL $!; wait $! 2>/dev/null; echo $?
(sleep 0.02; exit 3) & (sleep 0.01; exit 4) & wait; echo waited
$tests/wait_core | md5sum
$tests/signals | md5sum

echo threads
$tests/seed 150 1
$tests/threads | md5sum
$tests/futexes | md5sum

echo pipes and sockets of programs
$tests/pipes | md5sum
$tests/sockets | md5sum
$tests/memory | md5sum

echo /proc
sed -n 's/^Name:[[:space:]]*//p' /proc/self/status
readlink /proc/self/cwd
tr '\0' ' ' < /proc/self/cmdline; echo
cut -d' ' -f1-3 /proc/mounts | sort
ps -o comm | grep -c '^ps$'

cd / && rmdir /tmp/work
exit 42
