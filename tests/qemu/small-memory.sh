# name: 48 MiB are enough for a shell, for pipelines, and for servers that die
# args: --mem 48
seq 1 5000 | sort -r | md5sum
for s in proc vfs vm tmpfs procfs ufs tty blk root; do echo crash > /proc/naiad/servers/$s/ctl; done
seq 1 5000 | sort -r | md5sum
head -c 1500000 /bin/busybox | cat > /dev/null && ls -lR /bin /etc /dev > /dev/null && echo all read
sh -c 'tail /dev/zero; echo a hog: $?' 2> /dev/null
for i in 1 2 3 4 5 6; do (seq 1 300 | tr -d '0-8' | sort -u | tail -n 1) & done; wait
