// Least-cost flows of whole masses, after compiled.cpp in one program with it.

namespace {

// A least-cost flow of whole masses from n sources to m sinks, by shortest augmenting paths (Edmonds and Karp 1972):
// sources start at their cheapest sinks; what is too much of a sink goes on along a path of sinks, on each arc of which
// the source moves that it costs least. Potentials keep the arcs' reduced costs from being negative.
class Transport {
 public:
  Transport(int64_t n, int64_t m, const int64_t* masses, const int64_t* costs, const int64_t* capacities)
      : n_(n), m_(m), wide_((m + LANES - 1) / LANES * LANES), capacities_(capacities), costs_(n * wide_, NONE / 2),
        flow_(n * m), load_(m), potential_(wide_), step_(m * wide_), by_(m * wide_), distance_(m), before_(wide_),
        reached_(wide_), settled_(wide_, -1), sources_(m) {
    for (int64_t i = 0; i < n; ++i) {
      const int64_t* const row = std::copy_n(costs + i * m, m, &costs_[i * wide_]) - m;
      const int64_t j = std::min_element(row, row + m) - row;
      if (masses[i]) move(i, j, masses[i]);
    }
    for (int64_t j = 0; j < m; ++j) steps_from(j);
  }

  int64_t cost() {
    for (int64_t j = 0; j < m_; ++j)
      while (load_[j] > capacities_[j]) augment(j, nearest_gap(j));
    int64_t total = 0;
    for (int64_t j = 0; j < m_; ++j)
      for (const int64_t i : sources_[j]) total += flow_[j * n_ + i] * costs_[i * wide_ + j];
    return total;
  }

 private:
  static constexpr int64_t NONE = std::numeric_limits<int64_t>::max();
  static constexpr int CHAINS = 4;
  typedef int64_t Lanes __attribute__((vector_size(LANES * sizeof(int64_t)), aligned(alignof(int64_t)), may_alias));
  static Lanes& lanes(int64_t* numbers) { return *reinterpret_cast<Lanes*>(numbers); }

  // More, or less, of a source at a sink.
  void move(int64_t i, int64_t j, int64_t amount) {
    int64_t& flow = flow_[j * n_ + i];
    if (!flow) sources_[j].push_back(i);
    flow += amount;
    load_[j] += amount;
    if (!flow) {
      auto& here = sources_[j];
      *std::find(here.begin(), here.end(), i) = here.back();
      here.pop_back();
    }
  }

  // For every other sink, what it costs to move the cheapest source there, and which that is.
  void steps_from(int64_t j) {
    for (int64_t first = 0; first < wide_; first += LANES) {
      // several at once, which do not wait for each other
      Lanes step[CHAINS], by[CHAINS];
      for (int c = 0; c < CHAINS; ++c) step[c] = Lanes{} + NONE, by[c] = Lanes{};
      const auto& here = sources_[j];
      const auto look = [&](int c, int64_t i) {
        const Lanes more = lanes(&costs_[i * wide_ + first]) - costs_[i * wide_ + j], less = more < step[c];
        step[c] = less ? more : step[c];
        by[c] = less ? Lanes{} + i : by[c];
      };
      size_t at = 0;
      for (; at + CHAINS <= here.size(); at += CHAINS)
        for (int c = 0; c < CHAINS; ++c) look(c, here[at + c]);
      for (; at < here.size(); ++at) look(0, here[at]);
      for (int c = 1; c < CHAINS; ++c) {
        const Lanes less = step[c] < step[0];
        step[0] = less ? step[c] : step[0];
        by[0] = less ? by[c] : by[0];
      }
      lanes(&step_[j * wide_ + first]) = step[0];
      lanes(&by_[j * wide_ + first]) = by[0];
    }
  }

  // The sink with room that is nearest to one with too much, by Dijkstra's algorithm.
  int64_t nearest_gap(int64_t from) {
    std::fill(reached_.begin(), reached_.end(), NONE);
    std::fill(settled_.begin(), settled_.begin() + m_, 0);
    reached_[from] = 0;
    while (true) {
      const int64_t j = nearest_reached(), here = distance_[j] = reached_[j];
      if (load_[j] < capacities_[j]) {
        for (int64_t k = 0; k < m_; ++k) potential_[k] += settled_[k] ? distance_[k] : here;
        return j;
      }
      const Lanes leads_on = Lanes{} - int64_t(!sources_[j].empty());
      for (int64_t k = 0; k < wide_; k += LANES) {
        // by comparison, for to read as a vector what was written as a number takes long
        const Lanes itself = numbers(k) == j, settled = lanes(&settled_[k]) | itself;
        const Lanes reached = itself ? Lanes{} + NONE : lanes(&reached_[k]);
        const Lanes along = here + potential_[j] + lanes(&step_[j * wide_ + k]) - lanes(&potential_[k]);
        const Lanes less = (along < reached) & ~settled & leads_on;
        lanes(&settled_[k]) = settled;
        lanes(&reached_[k]) = less ? along : reached;
        lanes(&before_[k]) = less ? Lanes{} + j : lanes(&before_[k]);
      }
    }
  }

  // The nearest sink that is reached and not settled.
  int64_t nearest_reached() {
    Lanes least = lanes(&reached_[0]), which = numbers(0);
    for (int64_t k = LANES; k < wide_; k += LANES) {
      const Lanes less = lanes(&reached_[k]) < least;
      least = less ? lanes(&reached_[k]) : least;
      which = less ? numbers(k) : which;
    }
    int64_t most_near = least[0], nearest = which[0];
    for (int v = 1; v < LANES; ++v) {
      const bool less = least[v] < most_near;
      most_near = less ? least[v] : most_near;
      nearest = less ? which[v] : nearest;
    }
    return nearest;
  }
  static Lanes numbers(int64_t first) {
    Lanes found;
    for (int v = 0; v < LANES; ++v) found[v] = first + v;
    return found;
  }

  void augment(int64_t from, int64_t to) {
    int64_t amount = std::min(load_[from] - capacities_[from], capacities_[to] - load_[to]);
    for (int64_t k = to; k != from; k = before_[k])
      amount = std::min(amount, flow_[before_[k] * n_ + by_[before_[k] * wide_ + k]]);
    for (int64_t k = to; k != from; k = before_[k]) {
      const int64_t i = by_[before_[k] * wide_ + k];
      move(i, before_[k], -amount);
      move(i, k, amount);
    }
    for (int64_t k = to; k != from; k = before_[k]) steps_from(k);
    steps_from(from);
  }

  const int64_t n_, m_, wide_;
  const int64_t* const capacities_;
  std::vector<int64_t> costs_, flow_, load_, potential_, step_, by_, distance_, before_, reached_, settled_;
  std::vector<std::vector<int64_t>> sources_;
};

}  // namespace

extern "C" {

// Costs of problems, each with masses (n), costs (n, m) that lie `apart` numbers from those of the one before.
void transport(int64_t problems, int64_t n, int64_t m, int64_t apart, const int64_t* masses, const int64_t* costs,
               const int64_t* capacities, int64_t* totals) {
  for (int64_t p = 0; p < problems; ++p)
    totals[p] = Transport(n, m, masses + p * n, costs + p * apart, capacities).cost();
}

}
