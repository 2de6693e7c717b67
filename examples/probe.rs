use perfprof::profile::*; use perfprof::sampling::*; use perfprof::recorder::*; use perfprof::sys::perf::*; use perfprof::symbolize::*;
use std::collections::HashMap;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let bpf = a[1] == "bpf";
    let tree = a[2] == "tree";
    let pid: u32 = a[3].parse().expect("pid");
    let secs: f64 = a[4].parse().expect("secs");
    let hz: u32 = a[5].parse().expect("hz");
    let plan = SamplingPlan { scope: Scope::Pids { roots: vec![pid], tree }, trigger: Trigger::CpuClock, frequency_hz: hz,
        stack: if bpf || a[1]=="fp" { StackSource::CallChain } else { StackSource::Copy { bytes: 65528 } }, kernel: true, cpus: vec![0,1], pid_namespace_inum: 0, large_rings: true };
    let mut s: Box<dyn Sampler> = if bpf { Box::new(BpfSampler::arm(&plan).expect("arm")) } else { let e = load_exit_watch(&plan).ok(); Box::new(PerfSampler::arm(&plan, e).expect("arm")) };
    let stop = StopSignals::default();
    let l = RecordingLoop::new(&plan, Some(std::time::Duration::from_secs_f64(secs)), stop);
    let mut last = Progress::default();
    let r = l.run(&mut *s, || Ok(()), &mut |p| last = *p).expect("run");
    println!("{last:?} {:?} dur {} procs {} bpf {:?}", r.stopped_by, r.duration_ns, r.processes_seen, r.bpf);
    let acc = r.accountant.finish(s.reports_exits(), s.counted_cpu_ns(), s.losses(), None);
    println!("cpu {:?} threads {} lost {}", acc.cpu_ns(), acc.threads.len(), acc.lost);
    let mut b = ProfileBuilder::default();
    let t = std::time::Instant::now();
    let named = name_all(r.tally.frames(), &r.binaries, &KernelNames::inspect(), &mut b);
    println!("named {} frames in {:?}", named.len(), t.elapsed());
    r.tally.pour_into(&mut b, &named, |e, _| e);
    let p = b.build(Recording { slice_ns: SLICE_NS, duration_ns: r.duration_ns, ..Default::default() }, acc);
    println!("sampled {} s over {} s; usage {:?}", p.total_cpu_ns() as f64/1e9, p.accounting.cpu_ns().unwrap_or(0) as f64/1e9, perfprof::sys::usage::OwnUsage::now());
    let mut ends: HashMap<String,u64> = HashMap::new(); let mut st: HashMap<String,u64> = HashMap::new(); let mut bad: HashMap<String,u64> = HashMap::new();
    for s in &p.samples {
        *ends.entry(s.end.to_string()).or_default() += s.count;
        let names: Vec<String> = p.stacks.root_to_leaf(s.stack).flat_map(|f| { let f = p.frame(f); f.lines.iter().rev().map(|l| { let fu = p.function(l.function); format!("{}{}", fu.name, if f.kind==FrameKind::Kernel {"_[k]"} else {""}) }).collect::<Vec<_>>() }).collect();
        let k = format!("{};{}", p.thread(s.thread).process, names.join(";"));
        if s.end != StackEnd::Root { *bad.entry(format!("{} {}", s.end, k)).or_default() += s.count; }
        *st.entry(k).or_default() += s.count;
    }
    println!("{ends:?}");
    for (n, m) in [("TOP", st), ("BAD", bad)] { let mut v: Vec<_> = m.into_iter().collect(); v.sort_by_key(|x| std::cmp::Reverse(x.1)); println!("--{n}"); for (k, c) in v.iter().take(8) { println!("{c} {}", k.chars().take(600).collect::<String>()); } }
}
