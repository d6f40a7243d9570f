# name: the usual text tools in pipes
# expect-status: 7
cd /tmp
seq 1 1000 | awk '{s+=$1} END {print s}'
printf 'b\na\nc\n' | sort -r | head -2
cat <<X | tr a-z A-Z
here $((1+2))
X
mkdir -p d/e && echo x > d/e/f && tar cf t.tar d && rm -r d && tar xf t.tar && cat d/e/f
cp -r d g && mv g h && find h -type f && grep -r x h | sed 's/x/y/' && rm -r d h t.tar
echo "$(expr 6 \* 7) $(echo a,b | cut -d, -f2) $(echo one two | wc -w)"
dd if=/dev/zero bs=64k count=4 2>/dev/null | md5sum
(sleep 0.1; echo late) & wait
ls
exit 7
