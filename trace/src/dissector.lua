-- Takes records apart as `libipc/src/abi/trace.rs` specifies them.

local naiad = Proto("naiad", "Naiad")
local f = {
  record = ProtoField.string("naiad.record", "Record"),
  time = ProtoField.uint64("naiad.time", "Nanoseconds since boot"),
  who = ProtoField.string("naiad.who", "Who"),
  pid = ProtoField.uint32("naiad.pid", "Process"),
  tid = ProtoField.uint32("naiad.tid", "Thread"),
  server = ProtoField.string("naiad.server", "Server"),
  cpu = ProtoField.uint8("naiad.cpu", "Processor"),
  call = ProtoField.uint64("naiad.call", "Call", base.HEX),
  cause = ProtoField.uint64("naiad.cause", "Cause", base.HEX),
  refused = ProtoField.string("naiad.refused", "Refused"),
  linux = ProtoField.string("naiad.linux", "Linux call"),
  result = ProtoField.int64("naiad.result", "Result"),
  errno = ProtoField.uint32("naiad.errno", "errno"),
  errno_name = ProtoField.string("naiad.errno.name", "errno"),
  label = ProtoField.uint32("naiad.label", "Label", base.HEX),
  message = ProtoField.string("naiad.message", "Message"),
  to = ProtoField.string("naiad.to", "To"),
  word = ProtoField.uint64("naiad.word", "Word", base.HEX),
  value = ProtoField.uint64("naiad.value", "Value", base.HEX),
  payload = ProtoField.bytes("naiad.payload", "Payload"),
  begins = ProtoField.framenum("naiad.begins", "The call begins in"),
  ends = ProtoField.framenum("naiad.ends", "The call ends in"),
  caused = ProtoField.framenum("naiad.caused", "Its cause begins in"),
}
naiad.fields = f

-- Of each call by its name: what it is, and in which frames it begins and ends.
local calls = {}
function naiad.init() calls = {} end

local function number_of(name)
  for number, record in pairs(records) do
    if record.name == name then return number end
  end
end
local CALL, SEND, FORWARD = number_of("call"), number_of("send"), number_of("forward")
local REPLY, REPLY_FOREIGN = number_of("reply"), number_of("reply_foreign")
local LINUX, RESULT, DELIVERED = number_of("linux"), number_of("result"), number_of("delivered")
local FAULT, ATTENTION = number_of("fault"), number_of("attention")
local STAMP = 40

local function server(number)
  return servers[number] or (number == 0 and "kernel" or "server " .. number)
end

local function add_result(tree, range, info, entry)
  local result = range:le_int64()
  tree:add_le(f.result, range)
  local text = tostring(result)
  if result < Int64(0) and result > Int64(-4096) then
    local errno = -result:tonumber()
    local name = errnos[errno] or tostring(errno)
    tree:add(f.errno, range, errno)
    tree:add(f.errno_name, range, name)
    text = "-1 " .. name
  end
  info[#info + 1] = (entry and entry.name or "a call") .. " = " .. text
end

-- The info word of a message: its label, and in an answer the error.
local function add_label(tree, range, info, entry)
  local label = range(0, 4):le_uint()
  tree:add_le(f.label, range(0, 4))
  if entry == nil then
    tree:add(f.message, range(0, 4), labels[label] or string.format("message %#x", label))
    info[#info + 1] = labels[label] or string.format("message %#x", label)
    return
  end
  info[#info + 1] = (entry.name or "a call") .. (label == 0 and " is answered" or " = error " .. label)
  if label ~= 0 then
    tree:add(f.errno, range(0, 4), label)
    tree:add(f.errno_name, range(0, 4), errnos[label] or tostring(label))
  end
end

-- What a record's number means beyond its words. Returns the name of the call that begins with it.
local function add_meaning(tree, tvb, number, values, first_value, info, entry)
  local function word(index) return tvb(STAMP + index * 8, 8) end
  local function to(range)
    local name = server(range(0, 2):le_uint())
    tree:add(f.to, range, name)
    info[#info + 1] = "→ " .. name
  end
  if number == LINUX then
    local name = linux[word(0)(0, 4):le_uint()] or "unknown"
    tree:add(f.linux, word(0)(0, 4), name)
    if values > 0 then
      add_result(tree, tvb(first_value, 8), info, { name = name })
    else
      info[#info + 1] = name
      to(word(0)(4, 4))
    end
    return name
  elseif number == RESULT then
    if entry and entry.linux then tree:add(f.linux, word(0), entry.name) end
    add_result(tree, word(0), info, entry)
  elseif number == REPLY_FOREIGN then
    if entry and entry.linux then tree:add(f.linux, word(0), entry.name) end
    add_result(tree, word(2), info, entry)
  elseif number == REPLY then
    add_label(tree, word(1), info, entry or {})
  elseif number == CALL or number == SEND or number == FORWARD then
    add_label(tree, word(number == FORWARD and 2 or 1), info, nil)
    if values > 0 then to(tvb(first_value, 8)) end
    if number ~= FORWARD then return info[1] end
  elseif number == FAULT or number == ATTENTION then
    return records[number].name
  end
end

function naiad.dissector(tvb, pinfo, root)
  if tvb:len() < STAMP then return 0 end
  pinfo.cols.protocol = "Naiad"
  local number, refusal, values = tvb(0, 2):le_uint(), tvb(2, 1):uint(), tvb(3, 1):uint()
  local record = records[number] or { name = "unknown", arguments = {} }
  local tree = root:add(naiad, tvb(), "Naiad: " .. record.name)
  tree:add(f.record, tvb(0, 2), record.name)
  tree:add_le(f.time, tvb(8, 8))

  local pid, tid = tvb(16, 3):le_uint(), tvb(20, 4):le_uint()
  local who
  if pid ~= 0 then
    who = "process " .. pid
    tree:add(f.pid, tvb(16, 3), pid)
    tree:add(f.tid, tvb(20, 4), tid)
  else
    who = server(tid)
    if tid ~= 0 then tree:add(f.server, tvb(20, 4), who) end
  end
  tree:add(f.who, tvb(16, 8), who)
  tree:add(f.cpu, tvb(19, 1))
  pinfo.cols.src = who

  local call, cause = tostring(tvb(24, 8):le_uint64()), tostring(tvb(32, 8):le_uint64())
  if call ~= "0" then tree:add_le(f.call, tvb(24, 8)) end
  if cause ~= "0" then tree:add_le(f.cause, tvb(32, 8)) end
  if refusal ~= 0 then tree:add(f.refused, tvb(2, 1), refusals[refusal] or tostring(refusal)) end

  local info = {}
  local first_value = STAMP + #record.arguments * 8
  if tvb:len() < first_value + values * 8 then return tvb:len() end
  local begins = add_meaning(tree, tvb, number, values, first_value, info, calls[call])
  if not pinfo.visited and call ~= "0" then
    if begins then calls[call] = { name = begins, linux = number == LINUX, begins = pinfo.number } end
    local ends = number == REPLY or number == REPLY_FOREIGN or number == RESULT
    if ends and refusal == 0 and calls[call] then calls[call].ends = pinfo.number end
  end
  local entry, parent = calls[call], calls[cause]
  if entry and entry.begins ~= pinfo.number then tree:add(f.begins, entry.begins) end
  if entry and entry.ends and entry.ends ~= pinfo.number then tree:add(f.ends, entry.ends) end
  if parent and cause ~= call then tree:add(f.caused, parent.begins) end

  for index, name in ipairs(record.arguments) do
    local range = tvb(STAMP + (index - 1) * 8, 8)
    tree:add_le(f.word, range):prepend_text(name .. ": ")
  end
  for index = 0, values - 1 do tree:add_le(f.value, tvb(first_value + index * 8, 8)) end
  local length = tvb(4, 4):le_uint()
  local payload = first_value + values * 8
  if length > 0 and tvb:len() >= payload + length then tree:add(f.payload, tvb(payload, length)) end

  pinfo.cols.info = record.name .. (#info > 0 and ": " .. table.concat(info, " ") or "")
  return tvb:len()
end

-- Link type USER0.
DissectorTable.get("wtap_encap"):add(45, naiad)
