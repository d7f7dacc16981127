-- wrk script: sends the requests of a file, one after the other, each once. All requests of the file have one size.
--   wrk -t2 -c256 -d15s -s wrk.lua http://127.0.0.1:8080 -- FILE [wrap]
-- Every thread takes its own slice of the file. When a slice is spent the thread stops, or with "wrap" (for a server
-- that does not mind repeats, the bare one) begins again. `sluice bench flash --generator wrk` runs it.
local ffi = require("ffi")
ffi.cdef[[
int open(const char *path, int flags);
long lseek(int fd, long offset, int whence);
void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset);
]]

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

local data, stride, at, first, last, wrap

function init(args)
  local fd = ffi.C.open(args[1], 0)
  assert(fd >= 0, "cannot open the file of requests: give it after --")
  local size = tonumber(ffi.C.lseek(fd, 0, 2))
  data = ffi.cast("const char *", ffi.C.mmap(nil, size, 1, 1, fd, 0))
  local head = ffi.string(data, math.min(size, 4096))
  local _, head_end = head:find("\r\n\r\n", 1, true)
  stride = head_end + tonumber(head:match("Content%-Length: (%d+)"))
  wrap = args[2] == "wrap"
  local of = tonumber(os.getenv("WRK_THREADS") or "2")
  local total = math.floor(size / stride)
  first = math.floor(total * number / of)
  last = math.floor(total * (number + 1) / of)
  at = first
end

function request()
  if at >= last then
    if not wrap then
      wrk.thread:stop()
      return ffi.string(data + (last - 1) * stride, stride)
    end
    at = first
  end
  local r = ffi.string(data + at * stride, stride)
  at = at + 1
  return r
end
