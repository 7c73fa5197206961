# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='ruby: objects, strings, threads, fork'
needs=ruby packages=ruby

prepare() {
	cat >load.rb <<'RB'
require "digest"
count = ARGV[0].to_i
rng = Random.new(3)
words = Array.new(count) { |i| "#{rng.rand(1 << 60).to_s(36)}-#{"x" * (i % 60)}" }
table = words.each_with_index.to_h { |w, i| [w, { n: i, parts: w.split("-"), copy: w * 2 }] }
puts Digest::SHA256.hexdigest(table.sort.map { |k, v| "#{k}#{v[:n]}#{v[:copy]}" }.join)
reader, writer = IO.pipe
pid = fork do
  reader.close
  words.map!(&:reverse).sort!
  writer.puts Digest::SHA256.hexdigest(words.join)
end
writer.close
threads = 3.times.map { |t| Thread.new { words.each_slice(1000).select.with_index { |_, i| i % 3 == t }.flatten.map { |w| w.gsub(/[aeiou]/) { |c| c.upcase } }.sort.join.sum } }
puts threads.map(&:value).inspect
puts reader.read
Process.wait(pid)
puts $?.exitstatus, words.join.sum
RB
}

work() { tenant ruby "$load/load.rb" "$(scaled 180000)"; }
