-- Which queues a claim looks at first. Tenants share equally while they have work, and the batches of a
-- tenant by weight. Calls that a client waits for (interactive) come first, within a share of their lane.
local shares = {} -- Lua allows 200 local variables, so these functions are in a table

do
  local RECENT_S = 60 -- so long after the last interactive call, its lane keeps slots free for the next
  local CLIENT = ':c' -- ends the token of a job that a client waits for
  local MOST_KEPT = 1000 -- of a window, the part that the share is taken of

  -- A batch over HTTP is named after its tenant, or has it in its limits; all others are of one tenant.
  local function tenant_of(batch)
    local limits = batch.limits
    return limits and type(limits.tenant) == 'string' and limits.tenant or string.match(batch.name, '^([^/]+)/') or ''
  end

  function shares.is_interactive(batch)
    return batch.limits ~= nil and batch.limits.interactive == true
  end

  -- The end of the token of a job: its worker sees by it that a client waits.
  function shares.mark_of(batch) return shares.is_interactive(batch) and CLIENT or '' end

  -- Give each queue its weight in this claim; returns the sum. Where a tenant has interactive calls and
  -- batches, each of the two has half of its share.
  local function weigh_queues(queues)
    local sums, kinds, total = {}, {}, 0
    for _, each in ipairs(queues) do
      local tenant = tenant_of(each.batch)
      each.kind = shares.is_interactive(each.batch) and tenant .. '\n' or tenant
      each.tenant, each.weight = tenant, each.batch.weight
      if not sums[each.kind] then kinds[tenant] = (kinds[tenant] or 0) + 1 end
      sums[each.kind] = (sums[each.kind] or 0) + each.weight
    end
    local several = next(sums) and next(sums, next(sums))
    for _, each in ipairs(queues) do
      if several then each.weight = each.weight / sums[each.kind] / kinds[each.tenant] end
      total = total + each.weight
    end
    return total
  end

  -- Whether this worker claims from a batch: no real call for a rehearsal, no simulated one for others.
  local function is_ours(ask, name)
    local rehearsed = string.sub(name, -#REHEARSAL) == REHEARSAL
    return rehearsed == (ask.rehearsal == true) and (not ask.only or ask.only == name)
  end

  -- The active queues that a worker claims from, with their batches, in random order. A queue with a
  -- larger weight tends to come first, so weights also hold when claims ask for one job each.
  function shares.open_queues(ask, batch_named, seed, tries)
    local found = {}
    for _, queue in ipairs(redis.call('SMEMBERS', QUEUES)) do
      local batch = batch_named(batch_of(queue))
      if batch.open and is_ours(ask, batch.name) and is_utf8(queue) then
        local model = string.match(queue, '^' .. QUEUE .. ':[^:]*:(.+)$')
        found[#found + 1] = { queue = queue, batch = batch, model = model }
      end
    end
    if is_ours(ask, SINGLES) and redis.call('EXISTS', QUEUE) == 1 then
      found[#found + 1] = { queue = QUEUE, batch = { name = SINGLES, weight = 1, room = math.huge } }
    end
    local total = weigh_queues(found)
    if found[2] or tries then math.randomseed(seed) end
    if not found[2] then return found, total end
    for _, each in ipairs(found) do each.place = -math.log(1 - math.random()) / each.weight end
    table.sort(found, function(a, b) return a.place < b.place end)
    return found, total
  end

  local function share_of(lane, share) return max(1, share * min(lane.orders.window, MOST_KEPT)) end

  -- How many interactive calls may go before others in this lane. Each one costs 1, and each other call
  -- that goes meanwhile gives back so much that the share holds while both wait.
  function shares.credit_of(lane, share)
    local most = share_of(lane, share)
    return bounded(lane.hot.credit, 0, most, most)
  end

  -- How many interactive calls are in flight in this lane. Their leases are renewed in its slots alone, so
  -- one that has run out here is looked up there.
  local function clients_of(lane, now)
    if lane.clients then return lane.clients end
    local key = lane.key .. ':clients'
    for _, token in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', now)) do
      local lease_end = redis.call('ZSCORE', lane.slots, token)
      if lease_end then redis.call('ZADD', key, lease_end, token) else redis.call('ZREM', key, token) end
    end
    lane.clients = redis.call('ZCARD', key)
    return lane.clients
  end

  function shares.note_interactive(lane, share, used, now)
    lane.hot.asked_at, lane.hot.credit = now / 1000, max(0, shares.credit_of(lane, share) - used)
  end

  -- How many slots other calls leave free in this lane: those of its share that interactive calls do not
  -- use. So a client that comes late starts at once, however many others were called before. Without
  -- interactive calls: none.
  function shares.kept_slots(lane, share, now)
    local asked_at = lane.hot.asked_at
    if not asked_at or share == 0 then return 0 end
    local passed = now / 1000 - bounded(asked_at, 0, EXACT, 0)
    if passed > RECENT_S or passed < -RECENT_S then
      lane.hot.asked_at, lane.hot.credit = nil, nil
      return 0
    end
    local most = min(math.floor(share_of(lane, share)), lane.orders.window - 1)
    return max(0, most - clients_of(lane, now)), most
  end

  -- How many slots of this worker other calls leave free, whatever the clients of other workers use.
  function shares.kept_here(ask, lane, now)
    local _, most = shares.kept_slots(lane, ask.share, now)
    return min(ask.keep, most or 0)
  end

  -- Note a call that goes now, and the slot of a worker (`ask.keep`) that an interactive one no longer needs.
  function shares.note_call(ask, lane, batch, token, lease_end, now)
    if ask.share == 0 then return end
    if shares.is_interactive(batch) then
      lane.clients = clients_of(lane, now) + 1
      redis.call('ZADD', lane.key .. ':clients', lease_end, token)
      if ask.keep then ask.keep = max(0, ask.keep - 1) end
    elseif lane.hot.asked_at then
      lane.hot.credit = shares.credit_of(lane, ask.share) + ask.share / (1 - ask.share)
    end
  end
end
