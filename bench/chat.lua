-- wrk ... -s chat.lua URL -- BODY_FILE "name: value" ...   posts the file with these headers; prints its count as JSON.
function init(args)
   local file = assert(io.open(args[1], "rb"))
   wrk.method = "POST"
   wrk.body = file:read("*a")
   file:close()
   for number = 2, #args do
      local name, value = args[number]:match("^(.-): (.*)$")
      wrk.headers[name] = value
   end
end

function done(summary)
   local failed = summary.errors
   io.write(string.format('{"requests":%d,"seconds":%f,"errors":%d}\n', summary.requests, summary.duration / 1e6,
      failed.connect + failed.read + failed.write + failed.status + failed.timeout))
end
